//! Requests that functions send: streamed both ways to a server on loopback, refused, failed, and limited in number.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use obsidian_sandbox::functions::full;
use obsidian_types::{FunctionGrants, FunctionLimits};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fixture::{Feed, answer, block_on, conformance, eventually, get_with, node, request, text};

/// A server on loopback: `/echo` gives the body back as it comes, `/hold` does not answer, all else tells what came.
struct Server {
    authority: String,
    open: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let authority = listener.local_addr().expect("an address").to_string();
        let (open, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, peak) = (open.clone(), most.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (counted, peak) = (counted.clone(), peak.clone());
                connections.spawn(async move {
                    peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let service = service_fn(serve);
                    // A client that leaves is no error here.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { authority, open, most, _tasks: tasks }
    }

    fn grants(&self) -> FunctionGrants {
        let grant = self.authority.parse().expect("a host");
        FunctionGrants { outbound: vec![grant], ..FunctionGrants::default() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }
}

async fn serve(request: Request<Incoming>) -> Result<Response<Either<Incoming, Full<Bytes>>>, Infallible> {
    Ok(match request.uri().path() {
        "/echo" => Response::new(Either::Left(request.into_body())),
        "/hold" => std::future::pending().await,
        _ => {
            let passed = request.headers().get("x-pass-on").map_or("", |value| value.to_str().unwrap_or_default());
            let seen = format!("{} {} {passed}\n", request.method(), request.uri());
            let mut response = Response::new(Either::Right(Full::from(seen)));
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
    })
}

#[test]
fn a_granted_host_is_called_with_method_path_headers_and_status() {
    block_on(async {
        let server = Server::start().await;
        let module = conformance("calls", server.grants());
        let url = server.url("/some/path");
        let response = get_with(&module, "/outbound", &[("x-url", &url), ("x-pass-on", "word")]).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(text(response).await, "GET /some/path word\n");
    });
}

#[test]
fn bodies_stream_through_a_proxy_both_ways() {
    block_on(async {
        let server = Server::start().await;
        let module = conformance("proxy", server.grants());
        let (mut feed, body) = Feed::new();
        let mut call = request("POST", "/outbound", body);
        call.headers_mut().insert("x-url", server.url("/echo").parse().expect("a value"));
        let mut body = module.call(call).await.expect("the head comes before the body ends").into_body();
        for number in 0..10 {
            feed.data(format!("piece {number}")).await;
            let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("a frame in time");
            let data = frame.expect("a frame").expect("no error").into_data().expect("data");
            assert_eq!(data, format!("piece {number}"), "one piece comes back before the next is sent");
        }
        drop(feed);
        assert!(body.frame().await.is_none());
        // More than any buffer on the way.
        let sent: Bytes = (0..8_usize << 20).map(|index| (index % 241) as u8).collect();
        let mut call = request("POST", "/outbound", full(sent.clone()));
        call.headers_mut().insert("x-url", server.url("/echo").parse().expect("a value"));
        let received = module.call(call).await.expect("an answer").into_body().collect().await.expect("a whole body");
        assert!(received.to_bytes() == sent);
    });
}

#[test]
fn a_host_that_does_not_answer_is_an_error_code_and_a_log_line() {
    block_on(async {
        let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
        let outbound = vec![format!("127.0.0.1:{port}").parse().expect("a host")];
        let module = conformance("nobody", FunctionGrants { outbound, ..FunctionGrants::default() });
        let url = format!("http://127.0.0.1:{port}/");
        let response = get_with(&module, "/outbound", &[("x-url", &url)]).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let body = text(response).await;
        assert!(body.contains("Connection") || body.contains("Destination"), "{body}");
        node().logged("nobody", "cannot be connected to").await;
    });
}

#[test]
fn requests_in_flight_are_limited() {
    block_on(async {
        let server = Server::start().await;
        let limits = FunctionLimits { outbound_connections: 4, ..FunctionLimits::default() };
        let artifact = obsidian_guests::hostile_function().expect("the embedded bytes are the pinned ones");
        let module = node().load(&artifact, "many-calls", FunctionGrants { limits, ..server.grants() });
        let (_, report) = answer(&module, &format!("/outbound?n=800&url={}", server.authority)).await;
        assert!(report.contains("ConnectionLimitReached"), "{report}");
        assert!(server.most.load(Ordering::SeqCst) <= 4, "{report}");
        // What the instance had open goes with it.
        eventually("the end of the connections", || server.open.load(Ordering::SeqCst) == 0).await;
    });
}

#[test]
fn a_request_outwards_ends_with_its_instance() {
    block_on(async {
        let server = Server::start().await;
        let limits = FunctionLimits { wall_ms: 300, ..FunctionLimits::default() };
        let module = conformance("held", FunctionGrants { limits, ..server.grants() });
        let url = server.url("/hold");
        let error = get_with(&module, "/outbound", &[("x-url", &url)]).await.expect_err("it is never answered");
        assert_eq!(error.kind(), "wall_time");
        eventually("the end of the connection", || server.open.load(Ordering::SeqCst) == 0).await;
    });
}
