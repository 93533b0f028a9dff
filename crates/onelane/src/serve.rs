//! Composition: configuration, store, executor, engine and HTTP server put together.

use crate::cli::ServeOptions;

/// Runs the server until it is told to stop.
#[expect(clippy::unused_async, reason = "a stub until the parts are joined")]
pub(crate) async fn serve(_options: ServeOptions) -> anyhow::Result<()> {
    anyhow::bail!("the server is not joined yet")
}
