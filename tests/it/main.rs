//! The gateway as its users meet it: the real binary, real sockets, a real provider, an app that tells what it got.
//! Everything is on loopback, on ports of its own, so that all tests run at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at what it did not expect"
)]
#![allow(unreachable_pub, reason = "in a binary of tests, pub means: for the other modules")]

mod app;
mod app_connections;
mod client;
mod commands;
mod gateway;
mod glewlwyd;
mod oidc;
mod tls;
mod wait;
mod world;

mod admin;
mod assertions;
mod bodies;
mod certified;
mod cors;
mod deploy;
mod deploy_metrics;
mod documents;
mod examples;
mod forward_auth;
mod forward_auth_proxies;
mod fuzz;
mod hostile;
mod http2;
mod identity_headers;
mod instructions;
mod kubernetes;
mod limits;
mod package;
mod paths;
mod people;
mod process;
mod protocol;
mod provider_faults;
mod reasons;
mod refusals;
mod reload;
mod replicas;
mod resource;
mod secrets;
mod strangers;
mod tls_listener;
mod tokens;
mod traces;
mod upstreams;
mod websocket;
