//! The thread that the stand-ins' servers run on: one async runtime whose outgoing sockets are the control room's.

use std::future::Future;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::JoinHandle;

use axum::Router;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::error::{Context, Result};
use crate::room::Room;

/// The runtime. Dropping it ends every server on it.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Starts the thread in the room's network.
    pub(crate) fn start(control: &Room) -> Result<Runtime> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(|| "make a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (entered, outcome) = mpsc::channel();
        let pid = control.pid();
        let thread = std::thread::spawn(move || {
            let result = Room::enter_network_of(pid);
            let ready = result.is_ok();
            drop(entered.send(result));
            if ready {
                drop(runtime.block_on(stopped));
            }
        });
        outcome
            .recv()
            .ok()
            .context(|| "start the stand-ins' thread")??;
        Ok(Runtime {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Serves a router on a listener, whose room need not be the runtime's.
    pub(crate) fn serve(&self, listener: TcpListener, router: Router) -> Result<AbortHandle> {
        listener
            .set_nonblocking(true)
            .context(|| "prepare a listener")?;
        let _inside = self.handle.enter();
        let listener =
            tokio::net::TcpListener::from_std(listener).context(|| "prepare a listener")?;
        let server = async move {
            // It ends only with its task; an accept error is retried by axum itself.
            drop(axum::serve(listener, router).await);
        };
        Ok(self.handle.spawn(server).abort_handle())
    }
}

impl Runtime {
    /// Lets `serve` have each connection of a listener, whose room need not be the runtime's.
    pub(crate) fn accept<F>(
        &self,
        listener: TcpListener,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> std::io::Result<AbortHandle>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        listener.set_nonblocking(true)?;
        let _inside = self.handle.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        };
        Ok(self.handle.spawn(server).abort_handle())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
