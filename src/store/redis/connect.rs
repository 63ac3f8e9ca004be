//! The ways to a Redis: alone, as a cluster, behind sentinels. Each step has its own time-out, and the whole has one.

use crate::store::redis::{Mode, Settings};
use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, TlsCertificates, TlsMode};
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
        let authority = authority(settings)?;
        let open = |url: &String| open(url, authority.as_ref()).map_err(told);
        Ok(match &settings.mode {
            Mode::Standalone => Source::Standalone(Box::new(open(settings.urls.first().ok_or("no address")?)?)),
            Mode::Cluster => {
                let mut builder = ClusterClientBuilder::new(settings.urls.clone())
                    .connection_timeout(settings.connect_timeout)
                    .response_timeout(settings.command_timeout)
                    .retries(1);
                if let Some(certificates) = &authority {
                    builder = builder.certs(certificates.clone());
                }
                let nodes = settings.urls.iter().map(open).collect::<Result<_, _>>()?;
                Source::Cluster(Box::new(builder.build().map_err(told)?), nodes)
            }
            Mode::Sentinel { master_name } => {
                let client = |url: &String| sentinel(url, master_name, authority.as_ref()).map(Mutex::new);
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

fn authority(settings: &Settings) -> Result<Option<TlsCertificates>, String> {
    let read = |file: &PathBuf| std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
    let root = settings.ca_file.as_ref().map(read).transpose()?;
    Ok(root.map(|root| TlsCertificates { client_tls: None, root_cert: Some(root) }))
}

fn open(url: &str, authority: Option<&TlsCertificates>) -> Result<Client, RedisError> {
    match authority {
        Some(certificates) => Client::build_with_tls(url, certificates.clone()),
        None => Client::open(url),
    }
}

/// User, password and database of the address are those of the Redis behind; the sentinel is asked with the same, but for
/// the database. So is TLS.
fn sentinel(url: &str, master: &str, authority: Option<&TlsCertificates>) -> Result<SentinelClient, RedisError> {
    let info = url.into_connection_info()?;
    let secure = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let mut builder = SentinelClientBuilder::new([info.addr().clone()], master, SentinelServerType::Master)?
        .set_client_to_redis_db(info.redis_settings().db());
    if let Some(user) = info.redis_settings().username() {
        builder = builder.set_client_to_redis_username(user).set_client_to_sentinel_username(user);
    }
    if let Some(password) = info.redis_settings().password() {
        builder = builder.set_client_to_redis_password(password).set_client_to_sentinel_password(password);
    }
    if secure {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = authority {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
    }
    builder.build()
}
