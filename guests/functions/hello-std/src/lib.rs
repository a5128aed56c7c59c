//! A function as people write it: std, an asynchronous handler and the `wstd` crate, with nothing done to make it
//! small. Its cold start is measured.

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let name = if name.is_empty() { "world".to_owned() } else { name };
    Ok(Response::builder().header("content-type", "text/plain").body(format!("hello {name}\n").into())?)
}
