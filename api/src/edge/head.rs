//! Limits the size of a request's head. hyper limits its buffer, but a head may exceed that limit by the size of the last read.

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::problem::Problem;

/// Maximum size of a request's head: the request line, the headers and the empty line after them.
pub const HEAD_MAX_BYTES: usize = 64 << 10;

pub async fn limit_head(request: Request, next: Next) -> Response {
    if head_bytes(&request) > HEAD_MAX_BYTES {
        let detail = format!("the request's head must have at most {HEAD_MAX_BYTES} bytes");
        return Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail).into_response();
    }
    next.run(request).await
}

/// The size of a head in the format of RFC 9112: one space after each colon, CRLF after each line.
fn head_bytes<B>(request: &axum::http::Request<B>) -> usize {
    let target = request.uri();
    let target = target.path().len() + target.query().map_or(0, |query| "?".len() + query.len());
    let line = request.method().as_str().len() + " ".len() + target + " HTTP/1.1\r\n".len();
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + ": ".len() + value.len() + "\r\n".len()).sum();
    line + headers + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_as_many_bytes_as_it_is_written_with() {
        let written = "GET /api/v1/calls?limit=1 HTTP/1.1\r\nhost: example.com\r\naccept: */*\r\naccept: text/csv\r\n\r\n";
        let request = Request::get("/api/v1/calls?limit=1").header("host", "example.com");
        let request = request.header("accept", "*/*").header("accept", "text/csv").body(()).unwrap();
        assert_eq!(head_bytes(&request), written.len());
    }
}
