//! The HTTP request and response that queries and answers carry (`spec/protocol.md`, 3.9).

cocoon_tl::tl_objects! {
    /// One header line. The value may be a credential, so it is not shown in logs.
    #[derive(Eq)]
    "http.header name:string value:string = http.Header",
    pub struct Header {
        /// Header name.
        name: String,
        /// Header value.
        @hidden value: String,
    }

    /// A response head and the first piece of its body.
    ///
    /// W → P → C, bytes inside answers.
    #[derive(Eq)]
    "http.response http_version:string status_code:int reason:string headers:vector http.header payload:bytes = http.Response",
    pub struct Response {
        /// `HTTP/1.0` or `HTTP/1.1`.
        http_version: String,
        /// HTTP status.
        status_code: i32,
        /// Reason phrase.
        reason: String,
        /// In order.
        headers: Vec<Header>,
        /// Body bytes.
        @hidden payload: Vec<u8>,
    }

    /// A complete request.
    ///
    /// C → P → W, bytes inside run queries.
    #[derive(Eq)]
    "http.request method:string url:string http_version:string headers:vector http.header payload:bytes = http.Response",
    pub struct Request {
        /// HTTP method.
        method: String,
        /// Path and query.
        url: String,
        /// `HTTP/1.0` or `HTTP/1.1`.
        http_version: String,
        /// In order.
        headers: Vec<Header>,
        /// Body bytes.
        @hidden payload: Vec<u8>,
    }
}
