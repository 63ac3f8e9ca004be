//! Whose request caused what an audit line tells, also where the work is done in a task of its own.

use std::net::IpAddr;

#[derive(Clone, Debug)]
pub struct Requester {
    pub client: IpAddr,
    pub request_id: String,
}

tokio::task_local! {
    static CURRENT: Requester;
}

impl Requester {
    /// Does work that this request has caused.
    pub async fn causes<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// The client and the request id of the request that has caused the work of this task.
    pub fn current() -> (Option<String>, Option<String>) {
        let current = CURRENT.try_with(|by| (by.client.to_string(), by.request_id.clone()));
        current.ok().unzip()
    }
}

#[cfg(test)]
pub fn nobody() -> Requester {
    Requester { client: std::net::Ipv4Addr::LOCALHOST.into(), request_id: String::new() }
}
