//! The ways to a Redis: alone, as a cluster, behind sentinels. Each step has its own time-out, and the whole has one.

use crate::store::redis::{ClientFiles, Mode, Settings};
use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisError, TlsCertificates,
    TlsMode,
};
use std::collections::HashMap;
use std::path::PathBuf;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub(super) enum Source {
    Standalone(Box<Client>),
    /// Beside it the nodes by themselves: announcements reach each of them.
    Cluster(Box<ClusterClient>, Vec<Client>),
    /// Each by itself, so that one that does not answer holds up none of the others.
    Sentinels(Vec<Mutex<SentinelClient>>),
}

#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// To find a node and to greet it are several steps of `connect_timeout` each; the whole may take so many of them.
const STEPS: u32 = 3;

impl Source {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let told = |e: RedisError| e.to_string();
        if settings.urls.is_empty() {
            return Err("no address".into()); // what is asked of all at once wants one at least
        }
        let certificates = certificates(settings)?;
        let open = |url: &String| open(url, certificates.as_ref()).map_err(told);
        Ok(match &settings.mode {
            Mode::Standalone => Source::Standalone(Box::new(open(settings.urls.first().ok_or("no address")?)?)),
            Mode::Cluster => {
                let mut builder = ClusterClientBuilder::new(settings.urls.clone())
                    .connection_timeout(settings.connect_timeout)
                    .response_timeout(settings.command_timeout)
                    .retries(1);
                if let Some(certificates) = &certificates {
                    builder = builder.certs(certificates.clone());
                }
                let nodes = settings.urls.iter().map(open).collect::<Result<_, _>>()?;
                Source::Cluster(Box::new(builder.build().map_err(told)?), nodes)
            }
            Mode::Sentinel { master_name, user, password } => {
                let login =
                    Login { user: user.as_deref(), password: password.as_ref().map(|own| own.expose().as_str()) };
                let client = |url: &String| sentinel(url, master_name, &login, certificates.as_ref()).map(Mutex::new);
                Source::Sentinels(settings.urls.iter().map(client).collect::<Result<_, _>>().map_err(told)?)
            }
        })
    }

    pub(super) async fn connect(&self, settings: &Settings) -> Result<Connection, String> {
        match timeout(settings.connect_timeout * STEPS, self.try_connect(settings)).await {
            Ok(made) => made,
            Err(_) => Err(format!("no connection in {:?}", settings.connect_timeout * STEPS)),
        }
    }

    async fn try_connect(&self, settings: &Settings) -> Result<Connection, String> {
        let told = |e: RedisError| e.to_string();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.command_timeout));
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
        match timeout(settings.connect_timeout * STEPS, self.try_subscriber()).await {
            Ok(made) => made.map_err(|e| e.to_string()),
            Err(_) => Err(format!("no connection in {:?}", settings.connect_timeout * STEPS)),
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

/// The master that the first sentinel to answer names.
async fn master(sentinels: &[Mutex<SentinelClient>]) -> Result<Client, RedisError> {
    let asked =
        sentinels.iter().map(|sentinel| Box::pin(async move { sentinel.lock().await.async_get_client().await }));
    select_ok(asked).await.map(|(client, _)| client)
}

/// A node of a cluster answers for its own keys alone, and would look like a store that comes and goes.
async fn is_alone(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let told: Result<HashMap<String, redis::Value>, RedisError> = redis::cmd("HELLO").query_async(connection).await;
    // One that does not tell, of an older version, is taken as it is.
    match told.ok().and_then(|mut told| redis::from_redis_value::<String>(told.remove("mode")?).ok()).as_deref() {
        Some("cluster") => Err("it is a node of a cluster: store.redis.mode must be `cluster`".into()),
        Some("sentinel") => Err("it is a sentinel: store.redis.mode must be `sentinel`".into()),
        _ => Ok(()),
    }
}

/// Whom to trust, and who we are.
fn certificates(settings: &Settings) -> Result<Option<TlsCertificates>, String> {
    let read = |file: &PathBuf| std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
    let root_cert = settings.ca_file.as_ref().map(read).transpose()?;
    let client = |files: &ClientFiles| {
        Ok::<_, String>(ClientTlsConfig {
            client_cert: read(&files.certificate)?,
            client_key: read(&files.private_key)?,
        })
    };
    let client_tls = settings.client.as_ref().map(client).transpose()?;
    let is_own = root_cert.is_some() || client_tls.is_some();
    Ok(is_own.then_some(TlsCertificates { client_tls, root_cert }))
}

pub(super) fn is_address(url: &str) -> bool {
    url.into_connection_info().is_ok()
}

/// What sentinels are told in place of what the master is told.
struct Login<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
}

fn open(url: &str, certificates: Option<&TlsCertificates>) -> Result<Client, RedisError> {
    match certificates {
        Some(certificates) => Client::build_with_tls(url, certificates.clone()),
        None => Client::open(url),
    }
}

/// User, password and database of the address are those of the Redis behind; the sentinel is asked with the same, but for
/// the database and what it has of its own. So is TLS.
fn sentinel(
    url: &str,
    master: &str,
    login: &Login<'_>,
    certificates: Option<&TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let info = url.into_connection_info()?;
    let secure = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let mut builder = SentinelClientBuilder::new([info.addr().clone()], master, SentinelServerType::Master)?
        .set_client_to_redis_db(info.redis_settings().db());
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
