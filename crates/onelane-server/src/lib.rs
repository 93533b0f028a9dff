//! Onelane over HTTP: the native interface, a page, and the dialects. Knows no SQL and no processes: everything goes
//! through [`onelane_engine::Handle`].

mod api;
mod body;
mod curl;
mod dialects;
mod find;
mod guard;
mod hashes;
mod openapi;
mod options;
mod pages;
mod path;
mod problem;
mod reload;
mod serve_file;
mod uploads;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use onelane_engine::Handle;

use problem::{ApiError, Code};

pub use reload::{ReloadError, ToolsSource, reload};

/// What the server has to know besides the engine.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Host names (with or without a port) under which it may be reached, besides loopback and the listen address.
    pub hosts: Vec<String>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What holds the processes of new attempts together, as one word.
    pub process_control: String,
    /// Onelane's version.
    pub version: String,
    /// Where the tools come from.
    pub tools: ToolsSource,
}

/// Who submits, until there are tokens.
const OWNER: &str = "anonymous";

#[derive(Clone)]
struct Server {
    handle: Handle,
    config: Arc<ServerConfig>,
    hashes: Arc<hashes::Hashes>,
}

/// The whole service.
pub fn router(handle: Handle, config: ServerConfig) -> Router {
    let config = Arc::new(config);
    let server = Server {
        handle,
        config: Arc::clone(&config),
        hashes: Arc::default(),
    };
    openapi::routes(&config.version)
        .with_state(server)
        .fallback(async || {
            ApiError::new(Code::NotFound, "there is nothing at this path; see /docs")
        })
        .method_not_allowed_fallback(async || {
            ApiError::new(
                Code::MethodNotAllowed,
                "this path exists, but not for this method; see /docs",
            )
        })
        // Bodies have limits of their own, which name what to do instead.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(
            guard::Known::of(config),
            guard::guard,
        ))
}
