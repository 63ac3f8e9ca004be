//! A whole configuration that holds for itself: the file, and what was worked out from several of its keys.

use crate::config::file::File;
use crate::login::return_url::Pattern;
use crate::{edge, gate};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Settings {
    pub file: File,
    pub routes: Vec<Route>,
    /// Browsers may be sent on to these.
    pub return_origins: Vec<Pattern>,
    /// Of the store in a file.
    pub store_path: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Route {
    /// As written.
    pub from: String,
    pub gate: gate::route::Settings,
    pub upstream: edge::upstream::Settings,
}

impl Settings {
    pub fn listeners(&self) -> impl Iterator<Item = &edge::Settings> {
        self.file.listen.iter().map(|(_, listener)| &listener.0)
    }

    /// At least one.
    pub fn workers(&self) -> usize {
        match self.file.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => usize::from(n),
        }
    }

    /// What keeps its old value until a restart, by the names of the file's keys.
    pub fn changed_until_restart(&self, new: &Settings) -> Vec<&'static str> {
        // Certificates are read anew; all else of a listener stays.
        let listen = |s: &Settings| -> Vec<edge::Settings> {
            s.listeners().map(|listener| edge::Settings { tls: None, ..listener.clone() }).collect()
        };
        let (own, new_file) = (&self.file, &new.file);
        let changed = [
            (listen(self) != listen(new), "listen"),
            (own.admin.address != new_file.admin.address, "admin.address"),
            (self.workers() != new.workers(), "workers"),
            (own.store != new_file.store || self.store_path != new.store_path, "store"),
            (own.tracing != new_file.tracing, "tracing"),
            (own.refresh_dedup != new_file.refresh_dedup, "refresh_dedup"),
        ];
        changed.into_iter().filter_map(|(changed, name)| changed.then_some(name)).collect()
    }
}
