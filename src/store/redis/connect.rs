//! Connects to Redis: standalone, as a cluster, or behind sentinels. Each step has a time-out, and so has the whole.

use crate::kit::setting::FilePath;
use crate::store::redis::{Mode, RedisUrl, Settings};
use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisError, TlsCertificates,
    TlsMode, io::tcp::TcpSettings,
};
use std::collections::HashMap;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) enum Source {
    Standalone(Box<Client>),
    /// With a client for each node, for subscriptions: announcements reach every node.
    Cluster(Box<ClusterClient>, Vec<Client>),
    /// One client per sentinel, so that one that does not answer does not delay the others.
    Sentinels(Vec<Mutex<SentinelClient>>),
}

#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Finding a node and the handshake are several steps of `connect_timeout` each; together they may take this many.
const STEPS: u32 = 3;

impl Source {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let told = |e: RedisError| e.to_string();
        if settings.urls.is_empty() {
            return Err("no address".into()); // `select_ok` panics on an empty list
        }
        let certificates = certificates(settings)?;
        let open = |url: &RedisUrl| open(url.as_str(), certificates.as_ref()).map_err(told);
        Ok(match settings.mode {
            Mode::Standalone => Source::Standalone(Box::new(open(settings.urls.first().ok_or("no address")?)?)),
            Mode::Cluster => {
                let mut builder = ClusterClientBuilder::new(settings.urls.iter().map(RedisUrl::as_str))
                    .connection_timeout(*settings.connect_timeout)
                    .response_timeout(*settings.command_timeout)
                    .tcp_settings(at_once())
                    .retries(1);
                if let Some(certificates) = &certificates {
                    builder = builder.certs(certificates.clone());
                }
                let nodes = settings.urls.iter().map(open).collect::<Result<_, _>>()?;
                Source::Cluster(Box::new(builder.build().map_err(told)?), nodes)
            }
            Mode::Sentinel => {
                let master_name = settings.master_name.as_deref().unwrap_or_default();
                let password = settings.sentinel_password.as_ref().map(|own| own.expose().as_str());
                let login = Login { user: settings.sentinel_user.as_deref(), password };
                let client =
                    |url: &RedisUrl| sentinel(url.as_str(), master_name, &login, certificates.as_ref()).map(Mutex::new);
                Source::Sentinels(settings.urls.iter().map(client).collect::<Result<_, _>>().map_err(told)?)
            }
        })
    }

    pub(super) async fn connect(&self, settings: &Settings) -> Result<Connection, String> {
        match timeout(*settings.connect_timeout * STEPS, self.try_connect(settings)).await {
            Ok(made) => made,
            Err(_) => Err(format!("no connection in {:?}", *settings.connect_timeout * STEPS)),
        }
    }

    async fn try_connect(&self, settings: &Settings) -> Result<Connection, String> {
        let told = |e: RedisError| e.to_string();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(*settings.connect_timeout))
            .set_response_timeout(Some(*settings.command_timeout));
        match self {
            Source::Standalone(client) => {
                let mut made = client.get_multiplexed_async_connection_with_config(&config).await.map_err(told)?;
                is_alone(&mut made).await?;
                Ok(Connection::One(made))
            }
            Source::Cluster(client, _) => Ok(Connection::Cluster(client.get_async_connection().await.map_err(told)?)),
            Source::Sentinels(sentinels) => {
                let client = master(sentinels).await.map_err(told)?;
                let made = client.get_multiplexed_async_connection_with_config(&config).await;
                Ok(Connection::One(made.map_err(told)?))
            }
        }
    }

    /// A connection that can subscribe.
    pub(super) async fn subscriber(&self, settings: &Settings) -> Result<PubSub, String> {
        match timeout(*settings.connect_timeout * STEPS, self.try_subscriber()).await {
            Ok(made) => made.map_err(|e| e.to_string()),
            Err(_) => Err(format!("no connection in {:?}", *settings.connect_timeout * STEPS)),
        }
    }

    async fn try_subscriber(&self) -> Result<PubSub, RedisError> {
        match self {
            Source::Standalone(client) => client.get_async_pubsub().await,
            Source::Cluster(_, nodes) => {
                let asked = nodes.iter().map(|node| Box::pin(node.get_async_pubsub()));
                select_ok(asked).await.map(|(first, _)| first)
            }
            Source::Sentinels(sentinels) => master(sentinels).await?.get_async_pubsub().await,
        }
    }
}

/// The master named by the first sentinel that answers.
async fn master(sentinels: &[Mutex<SentinelClient>]) -> Result<Client, RedisError> {
    let asked =
        sentinels.iter().map(|sentinel| Box::pin(async move { sentinel.lock().await.async_get_client().await }));
    select_ok(asked).await.map(|(client, _)| client)
}

/// Rejects cluster nodes and sentinels. A cluster node serves only its own keys, and would look like a flapping store.
async fn is_alone(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let told: Result<HashMap<String, redis::Value>, RedisError> = redis::cmd("HELLO").query_async(connection).await;
    // An older server that does not report its mode is accepted.
    match told.ok().and_then(|mut told| redis::from_redis_value::<String>(told.remove("mode")?).ok()).as_deref() {
        Some("cluster") => Err("it is a node of a cluster: store.redis.mode must be `cluster`".into()),
        Some("sentinel") => Err("it is a sentinel: store.redis.mode must be `sentinel`".into()),
        _ => Ok(()),
    }
}

/// The certificate authority to trust, and our client certificate.
fn certificates(settings: &Settings) -> Result<Option<TlsCertificates>, String> {
    let read = |file: &FilePath| std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
    let root_cert = settings.ca_file.as_ref().map(read).transpose()?;
    let client = |(certificate, key): (&FilePath, &FilePath)| {
        Ok::<_, String>(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
    };
    let client_tls = settings.certificate.as_ref().zip(settings.private_key.as_ref()).map(client).transpose()?;
    let is_own = root_cert.is_some() || client_tls.is_some();
    Ok(is_own.then_some(TlsCertificates { client_tls, root_cert }))
}

/// Credentials for the sentinels, in place of the master's.
struct Login<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
}

fn open(url: &str, certificates: Option<&TlsCertificates>) -> Result<Client, RedisError> {
    let info = url.into_connection_info()?.set_tcp_settings(at_once());
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

/// Many commands share a connection: by default each waits until the one before it was acknowledged (RFC 896).
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The address holds user, password and database of the Redis behind. The sentinel gets the same user and password,
/// unless it has its own, and the same TLS settings.
fn sentinel(
    url: &str,
    master: &str,
    login: &Login<'_>,
    certificates: Option<&TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let info = url.into_connection_info()?;
    let secure = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let mut builder = SentinelClientBuilder::new([info.addr().clone()], master, SentinelServerType::Master)?
        .set_client_to_redis_db(info.redis_settings().db())
        .set_client_to_redis_tcp_settings(at_once())
        .set_client_to_sentinel_tcp_settings(at_once());
    let (user, password) = (info.redis_settings().username(), info.redis_settings().password());
    if let Some(user) = user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = login.user.or(user).filter(|user| !user.is_empty()) {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = login.password.or(password).filter(|password| !password.is_empty()) {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if secure {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
    }
    builder.build()
}
