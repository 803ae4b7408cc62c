//! The closed sets that label a request: its method, and how it ended.
//!
//! A client chooses neither name: what is not in a table is `other`.

/// Which wire a request came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// gRPC.
    Grpc,
    /// Plain HTTP.
    Http,
}

impl Transport {
    pub(super) const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// The paths of gRPC; the part behind the last slash is the label, unless it says too little.
const GRPC: [(&str, &str); 21] = [
    ("/build.bazel.remote.execution.v2.Capabilities/GetCapabilities", "GetCapabilities"),
    ("/build.bazel.remote.execution.v2.ActionCache/GetActionResult", "GetActionResult"),
    ("/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult", "UpdateActionResult"),
    (
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs",
        "FindMissingBlobs",
    ),
    (
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs",
        "BatchUpdateBlobs",
    ),
    ("/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs", "BatchReadBlobs"),
    ("/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree", "GetTree"),
    ("/build.bazel.remote.execution.v2.ContentAddressableStorage/SplitBlob", "SplitBlob"),
    ("/build.bazel.remote.execution.v2.ContentAddressableStorage/SpliceBlob", "SpliceBlob"),
    ("/google.bytestream.ByteStream/Read", "Read"),
    ("/google.bytestream.ByteStream/Write", "Write"),
    ("/google.bytestream.ByteStream/QueryWriteStatus", "QueryWriteStatus"),
    ("/grpc.health.v1.Health/Check", "HealthCheck"),
    ("/grpc.health.v1.Health/Watch", "HealthWatch"),
    ("/castellan.worker.v1.Worker/StageTree", "StageTree"),
    ("/castellan.worker.v1.Worker/ReleaseTree", "ReleaseTree"),
    ("/castellan.worker.v1.Worker/CaptureTree", "CaptureTree"),
    ("/castellan.worker.v1.Worker/CaptureFiles", "CaptureFiles"),
    ("/castellan.worker.v1.Worker/FetchTree", "FetchTree"),
    ("/castellan.worker.v1.Worker/GetDiskUsage", "GetDiskUsage"),
    // No path is empty: the place of all others.
    ("", "other"),
];

/// What the paths of values begin with.
const VALUES: [&str; 3] = ["ccache", "gradle", "webdav"];
/// What they are about; no path says this.
const OF_VALUES: &str = "(values)";

/// What HTTP paths are about, and the verb.
const HTTP: [(&str, &str, &str); 14] = [
    ("cas", "GET", "cas_get"),
    ("cas", "HEAD", "cas_head"),
    ("cas", "PUT", "cas_put"),
    ("cas", "DELETE", "cas_delete"),
    ("ac", "GET", "ac_get"),
    ("ac", "HEAD", "ac_head"),
    ("ac", "PUT", "ac_put"),
    ("ac", "DELETE", "ac_delete"),
    (OF_VALUES, "GET", "values_get"),
    (OF_VALUES, "HEAD", "values_head"),
    (OF_VALUES, "PUT", "values_put"),
    (OF_VALUES, "DELETE", "values_delete"),
    ("metrics", "GET", "metrics"),
    ("", "", "other"),
];

/// The method of a request, out of a closed set over both wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method(u8);

impl Method {
    pub(super) const COUNT: usize = GRPC.len() + HTTP.len();

    /// The method of a gRPC call.
    pub fn of_grpc(path: &str) -> Self {
        let known = GRPC.iter().position(|(known, _)| *known == path);
        Self::at(known.unwrap_or(GRPC.len() - 1))
    }

    /// The method of an HTTP request: `/cas/{hash}`, with any instance name before it, or of a
    /// value, whose name may be anything.
    pub fn of_http(verb: &str, path: &str) -> Self {
        let mut segments = path.rsplit('/');
        let last = segments.next().unwrap_or_default();
        let about = segments.next().filter(|about| !about.is_empty()).unwrap_or(last);
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let about = if VALUES.contains(&first) { OF_VALUES } else { about };
        let known = HTTP.iter().position(|(kind, known, _)| *kind == about && *known == verb);
        Self::at(GRPC.len() + known.unwrap_or(HTTP.len() - 1))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self::at)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the tables are short")]
    const fn at(position: usize) -> Self {
        Self(position as u8)
    }

    pub(super) fn position(self) -> usize {
        usize::from(self.0)
    }

    /// Which wire it is on.
    pub fn transport(self) -> Transport {
        if self.position() < GRPC.len() { Transport::Grpc } else { Transport::Http }
    }

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        let of_grpc = GRPC.get(self.position()).map(|(_, name)| *name);
        let of_http = || HTTP.get(self.position().wrapping_sub(GRPC.len())).map(|it| it.2);
        of_grpc.or_else(of_http).unwrap_or("other")
    }
}

/// The status codes of gRPC, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const CANCELLED: u8 = 1;
const UNKNOWN: u8 = 2;

/// The HTTP statuses that are told apart.
const STATUSES: [(u16, &str); 23] = [
    // None yet, or the client went away in the middle of it.
    (0, "aborted"),
    // Every other.
    (1, "other"),
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (206, "206"),
    (207, "207"),
    (304, "304"),
    (400, "400"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (411, "411"),
    (412, "412"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (416, "416"),
    (500, "500"),
    (503, "503"),
    (507, "507"),
];

/// How a request ended, out of a closed set for each wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(u8);

impl Outcome {
    /// As many as either wire knows.
    pub(super) const COUNT: usize = STATUSES.len();

    /// What a request ends with whose client went away.
    pub(super) fn unfinished(transport: Transport) -> Self {
        match transport {
            Transport::Grpc => Self(CANCELLED),
            Transport::Http => Self(0),
        }
    }

    /// From the value of a `grpc-status` header.
    pub fn of_grpc_status(value: &[u8]) -> Self {
        let code = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        Self(code.filter(|code| usize::from(*code) < CODES.len()).unwrap_or(UNKNOWN))
    }

    /// From the status of an HTTP response.
    pub fn of_http_status(status: u16) -> Self {
        let known = STATUSES.iter().position(|(known, _)| *known == status && status > 1);
        Self(known.and_then(|position| u8::try_from(position).ok()).unwrap_or(1))
    }

    /// Whether the server failed, not the client, and nothing was just missing.
    pub(super) fn is_failure(self, transport: Transport) -> bool {
        match transport {
            Transport::Grpc => matches!(
                self.name(transport),
                "UNKNOWN"
                    | "DEADLINE_EXCEEDED"
                    | "UNIMPLEMENTED"
                    | "INTERNAL"
                    | "UNAVAILABLE"
                    | "DATA_LOSS"
            ),
            Transport::Http => self.name(transport).starts_with('5'),
        }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).filter_map(|position| u8::try_from(position).ok().map(Self))
    }

    pub(super) fn position(self) -> usize {
        usize::from(self.0)
    }

    /// Its name as a label.
    pub fn name(self, transport: Transport) -> &'static str {
        let name = match transport {
            Transport::Grpc => CODES.get(self.position()).copied(),
            Transport::Http => STATUSES.get(self.position()).map(|(_, name)| *name),
        };
        name.unwrap_or("other")
    }
}
