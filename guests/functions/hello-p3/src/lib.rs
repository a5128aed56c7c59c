//! The hello of WASI 0.3: `wasi:http/handler`, an asynchronous export with a stream as its body.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut sender, body) = wit_stream::new();
        // Dropped unwritten, the sender of the trailers stands for none.
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        wit_bindgen::spawn_local(async move {
            // What is left over belongs to a client that has left.
            let _ = sender.write_all(b"hello\n".to_vec()).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Hello);
