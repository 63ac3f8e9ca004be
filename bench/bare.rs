//! The yardstick of `bench/run.sh`: the same Pingora build as the gateway, shaped the same way (one
//! single-thread service per shard on one port), proxying with no gate at all. What the gateway costs is
//! the difference between the two.
use async_trait::async_trait;
use clap::Parser;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::Result;
use pingora_proxy::{ProxyHttp, Session, http_proxy};
use std::net::SocketAddr;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seconds a client's connection may rest between two requests.
const CLIENT_KEEPALIVE: u64 = 75;
/// How long an upstream connection is kept for the next request.
const UPSTREAM_IDLE: Duration = Duration::from_secs(60);
/// Bytes read at once from a client: a head with a token fits, an idle connection stays small.
const READ_BUFFER: usize = 16 * 1024;

/// A reverse proxy without a gate.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The one upstream.
    #[arg(long)]
    upstream: SocketAddr,
    /// Single-thread services that share the port.
    #[arg(long, default_value_t = 2)]
    shards: usize,
}

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> Result<bool> {
        session.set_keepalive(Some(CLIENT_KEEPALIVE));
        Ok(false)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

fn main() {
    let args = Args::parse();
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    for shard in 0..args.shards {
        server.add_service(service(&server, &args, shard));
    }
    server.run_forever();
}

fn service(server: &Server, args: &Args, shard: usize) -> Service<pingora_proxy::HttpProxy<Bare>> {
    let mut peer = HttpPeer::new(args.upstream, false, String::new());
    peer.options.idle_timeout = Some(UPSTREAM_IDLE);
    let proxy = http_proxy(&server.configuration, Bare { peer });

    let mut socket = TcpSocketOptions::default();
    socket.so_reuseport = Some(true);
    let buffers = L4BufferSettings { read: Some(READ_BUFFER), ..L4BufferSettings::default() };
    let listener = ListenerConfig::tcp(spelled(args.listen, shard)).tcp_socket_options(socket).l4_buffer(buffers);

    let mut service = Service::new(format!("bare-{shard}"), proxy);
    service.threads = Some(1);
    service.add_listener(listener);
    service
}

/// Pingora keys listening sockets by the address as it is written, and services with one spelling would
/// share one socket. Leading zeros in the port tell them apart.
fn spelled(address: SocketAddr, shard: usize) -> String {
    let (host, port) = (address.ip(), address.port());
    let zeros = "0".repeat(shard);
    match address {
        SocketAddr::V4(_) => format!("{host}:{zeros}{port}"),
        SocketAddr::V6(_) => format!("[{host}]:{zeros}{port}"),
    }
}
