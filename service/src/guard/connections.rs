//! The listening side: connections bounded in number, handshakes and heads of requests in time; an orderly end.

use super::{Limits, Stopping};
use crate::tls::Tls;
use axum::Router;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use curate_api::{Error, Result};
use futures::future::BoxFuture;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound address that is not served yet.
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

impl Door {
    /// Bind this address.
    ///
    /// # Errors
    /// `serve/port`, `serve/bind`.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let fail = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => Error::io("serve/port", format!("{address} is taken by another program"))
                .hint("take another --bind address, such as 127.0.0.1:0 for any free port"),
            io::ErrorKind::PermissionDenied => {
                Error::io("serve/bind", format!("this user may not bind {address}")).hint("take a port above 1023")
            }
            _ => Error::io("serve/bind", format!("cannot bind {address}: {e}")).hint("name an address of this machine"),
        };
        let listener = TcpListener::bind(address).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was drawn where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serve until `stopping` is said and what is under way has ended, or `now` comes.
    ///
    /// # Errors
    /// `serve/failed`.
    pub async fn serve(
        self,
        routes: Router,
        tls: Option<Tls>,
        limits: &Limits,
        (stopping, now): (Stopping, impl Future<Output = ()>),
    ) -> Result<()> {
        let handle = Handle::new();
        let (ending, wait) = (handle.clone(), limits.stop_wait);
        let end = tokio::spawn(async move {
            stopping.wait().await;
            ending.graceful_shutdown(Some(wait));
        });
        let served = self.run(routes, tls, limits, handle);
        let result = tokio::select! {
            result = served => result,
            () = now => Ok(()),
        };
        end.abort();
        result.map_err(|e| Error::io("serve/failed", format!("the server ended: {e}")))
    }

    async fn run(
        self,
        routes: Router,
        tls: Option<Tls>,
        limits: &Limits,
        handle: Handle<SocketAddr>,
    ) -> io::Result<()> {
        let mut server = axum_server::from_tcp(self.listener)?
            .handle(handle)
            .first_request_timeout(limits.header_wait)
            .accept_error_handler(|from, error| tracing::debug!(?from, %error, "connection refused"));
        patient(&mut server, limits);
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        let bounded = Bounded { places: Arc::new(Semaphore::new(limits.connections)) };
        let Some(tls) = tls else { return server.acceptor(bounded).serve(service).await };
        let acceptor = RustlsAcceptor::new(tls.into()).handshake_timeout(limits.header_wait).acceptor(bounded);
        server.acceptor(acceptor).serve(service).await
    }
}

/// Bounds of the protocol: time for the head, its size, streams of one connection.
fn patient(server: &mut Server<SocketAddr>, limits: &Limits) {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(limits.header_wait).max_buf_size(64 << 10);
    builder
        .http2()
        .max_concurrent_streams(100)
        .max_header_list_size(16 << 10)
        .keep_alive_interval(limits.header_wait)
        .keep_alive_timeout(limits.header_wait);
}

/// Takes a connection while there is a place.
#[derive(Clone)]
struct Bounded {
    places: Arc<Semaphore>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Bounded {
    type Stream = Held;
    type Service = S;
    type Future = BoxFuture<'static, io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.places).try_acquire_owned();
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other("too many connections"))?;
            stream.set_nodelay(true)?;
            Ok((Held { stream, _place: place }, service))
        })
    }
}

/// A connection and its place.
struct Held {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
