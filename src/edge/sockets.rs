//! The listening sockets of the public listeners, one for each worker: their distinct names, whether all are open, and
//! whether they can be handed over to a successor process.

use pingora_core::server::ListenFds;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::OnceLock;

pub struct Sockets {
    addresses: Vec<SocketAddr>,
    workers: usize,
    /// Pingora's table of open sockets; set when its services start.
    table: OnceLock<ListenFds>,
}

/// The most sockets that Pingora sends in one message. Their names share 2,048 bytes, enough for 32 of the longest.
const MOST_HANDED_OVER: usize = 32;

impl Sockets {
    pub fn new(addresses: Vec<SocketAddr>, workers: usize) -> Self {
        Sockets { addresses, workers, table: OnceLock::new() }
    }

    pub(super) fn see(&self, table: ListenFds) {
        let _ = self.table.set(table); // every service passes the same table
    }

    /// Listeners that do not accept connections on every worker yet.
    pub fn missing(&self) -> BTreeSet<SocketAddr> {
        let table = self.table.get().map(|table| table.lock());
        let is_open = |address: SocketAddr, shard| {
            table.as_ref().is_some_and(|table| table.get(&spelled(address, shard)).is_some())
        };
        let all_open = |address: &SocketAddr| (0..self.workers).all(|shard| is_open(*address, shard));
        self.addresses.iter().filter(|address| !all_open(address)).copied().collect()
    }

    /// # Errors
    /// There are more sockets than one hand-over can pass.
    pub fn can_be_handed_over(&self) -> Result<(), String> {
        let all = self.addresses.len() * self.workers;
        if all <= MOST_HANDED_OVER {
            return Ok(());
        }
        Err(format!("{all} sockets (listeners times workers); a hand-over takes {MOST_HANDED_OVER} at most"))
    }
}

/// Pingora keys its listening sockets by the address as text: services with one spelling share one socket. Leading
/// zeros in the port make the spellings differ, and the address stays the same.
pub(super) fn spelled(address: SocketAddr, shard: usize) -> String {
    let port = format!("{}{}", "0".repeat(shard), address.port());
    match address {
        SocketAddr::V4(v4) => format!("{}:{port}", v4.ip()),
        SocketAddr::V6(v6) => format!("[{}]:{port}", v6.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::server::Fds;
    use std::sync::Arc;

    #[test]
    fn a_listener_is_there_when_every_worker_has_its_socket() {
        let (one, two): (SocketAddr, SocketAddr) = ("127.0.0.1:80".parse().unwrap(), "[::1]:443".parse().unwrap());
        let sockets = Sockets::new(vec![one, two], 2);
        assert_eq!(sockets.missing(), BTreeSet::from([one, two]), "nothing has started");
        let table: ListenFds = Arc::new(Fds::new().into());
        sockets.see(table.clone());
        for (key, missing) in [
            ("127.0.0.1:80", vec![one, two]),
            ("127.0.0.1:080", vec![two]),
            ("[::1]:0443", vec![two]),
            ("[::1]:443", vec![]),
        ] {
            table.lock().add(key.into(), -1);
            assert_eq!(sockets.missing(), BTreeSet::from_iter(missing), "{key}");
        }
    }

    #[test]
    fn more_than_one_message_holds_is_not_handed_over() {
        let v4: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert!(Sockets::new(vec![v4], 32).can_be_handed_over().is_ok());
        assert!(Sockets::new(vec![v4, v4], 16).can_be_handed_over().is_ok());
        assert!(Sockets::new(vec![v4, v4], 17).can_be_handed_over().is_err());
        let longest: SocketAddr = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        let names: usize = (0..MOST_HANDED_OVER).map(|shard| spelled(longest, shard).len() + 1).sum();
        assert!(names <= 2048, "{names}");
    }
}
