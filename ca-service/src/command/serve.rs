//! `eic-ca serve`: the service, until it is told to end.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::config_file::ConfigFile;
use super::output::print;
use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::http::router;
use crate::http::server::{Server, ServerError};
use crate::{log, process_memory, worker_threads};

/// How to serve.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: tracing::Level,
}

/// Runs the command.
///
/// # Errors
/// [`ServeError`]
pub fn run(args: &ServeArgs) -> Result<ExitCode, ServeError> {
    let config = args.config.load()?;
    log::start(args.log);
    if let Err(error) = process_memory::protect() {
        tracing::warn!(%error, "core dumps could not be switched off; keys in memory could reach a disk");
    }
    let runtime = worker_threads::runtime().map_err(ServeError::Runtime)?;
    runtime.block_on(serve(&config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: &Config) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Runtime)?;
    let app = App::start(config, Clock::system()).await?;
    let server = Server::bind(&config.server, config.limits).await?;
    let address = server.address().map_err(ServeError::Runtime)?;
    let watching = tokio::spawn(Arc::clone(&app).watch_files());
    let keeping = tokio::spawn(Arc::clone(&app).keep_bundle());
    let hosts = tokio::spawn(Arc::clone(&app).watch_hosts());
    print(format_args!(
        "eic-ca: listening on {}://{address}\n",
        server.scheme()
    ));
    let end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending: requests that are under way are finished");
        app.end_waits();
    };
    server.run(router(Arc::clone(&app)), end).await;
    watching.abort();
    keeping.abort();
    hosts.abort();
    Ok(())
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that it names.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The listener.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system.
    #[error("start: {0}")]
    Runtime(std::io::Error),
}
