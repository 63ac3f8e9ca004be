//! A whole configuration, each part in the terms of the room that it is for.

use crate::client::forwarded::ClientIp;
use crate::watch::log::Logging;
use crate::{bearer, edge, gate, provider};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Vec<edge::listen::Settings>,
    pub admin: edge::admin::Settings,
    pub auth_path: String,
    pub shutdown_grace: Duration,
    /// At least one.
    pub workers: usize,
    pub logging: Logging,
    pub client_ip: ClientIp,
    pub providers: Vec<provider::Settings>,
    pub routes: Vec<Route>,
    pub verified_tokens: bearer::verified::Settings,
    /// Of the store nothing is in use but what a reload compares.
    pub store: String,
}

#[derive(Clone, Debug)]
pub struct Route {
    /// As written.
    pub from: String,
    pub gate: gate::route::Settings,
    pub upstream: edge::upstream::Settings,
}

impl Settings {
    /// What keeps its old value until a restart, by the names of the file's keys.
    pub fn changed_until_restart(&self, new: &Settings) -> Vec<&'static str> {
        let mut names = Vec::new();
        // Certificates are read anew; all else of a listener stays.
        let listen = |s: &Settings| -> Vec<_> {
            s.listen.iter().map(|l| edge::listen::Settings { certificates: Vec::new(), ..l.clone() }).collect()
        };
        if listen(self) != listen(new) {
            names.push("listen");
        }
        if self.admin.address != new.admin.address {
            names.push("admin.address");
        }
        if self.workers != new.workers {
            names.push("workers");
        }
        if self.store != new.store {
            names.push("store");
        }
        names
    }
}
