//! Greets whoever asks, and counts the visits of each name in the store `visits`.

use wstd::http::{Body, Error, Request, Response};

wit_bindgen::generate!({ path: "../../wit/functions", world: "imports", generate_all });

use wasi::config::store as configuration;
use wasi::keyvalue::{atomics, store};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let name = request.uri().path().rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("world").to_owned();
    let greeting = configuration::get("greeting")?.unwrap_or_else(|| "hello".to_owned());
    let visits = atomics::increment(&store::open("visits")?, &name, 1)?;
    let text = format!("{greeting} {name}, from Rust, visit {visits}\n");
    Ok(Response::builder().header("content-type", "text/plain").body(text.into())?)
}
