//! The options of storage services and user directories, which are refused as a whole: the one
//! that turns each of them on says why, the others go with it.

use crate::cli::compat::option::CompatOption;
use crate::cli::compat::option::Fate::{self, Refused, With};
use crate::cli::compat::option::Kind::{Integer, Switch, Text};

const CLOUD: &str = "no object store stands behind this one; give the room to `max_size`, or \
                     another server with `grpc_proxy.url`";
const HTTP: &str = "no HTTP cache stands behind this one; a server that speaks gRPC can, with \
                    `grpc_proxy.url`";
const LDAP: &str =
    "there are no user directories; put a server that asks for passwords before this one";

const fn gcs(name: &'static str) -> CompatOption {
    text(name, With("gcs_proxy.bucket"))
}

const fn ldap(name: &'static str) -> CompatOption {
    text(name, With("ldap.url"))
}

const fn s3(name: &'static str) -> CompatOption {
    text(name, With("s3.bucket"))
}

const fn azblob(name: &'static str) -> CompatOption {
    text(name, With("azblob.tenant_id"))
}

const fn text(name: &'static str, fate: Fate) -> CompatOption {
    CompatOption::new(name, Text, "", fate)
}

const fn s3_switch(name: &'static str) -> CompatOption {
    CompatOption::new(name, Switch, "false", With("s3.bucket"))
}

/// All of them.
pub(super) static ALL: &[CompatOption] = &[
    text("http_proxy.url", Refused(HTTP)),
    text("http_proxy.key_file", With("http_proxy.url")),
    text("http_proxy.cert_file", With("http_proxy.url")),
    text("http_proxy.ca_file", With("http_proxy.url")),
    text("gcs_proxy.bucket", Refused(CLOUD)).environment(&["BAZEL_REMOTE_GCS_BUCKET"]),
    CompatOption::new(
        "gcs_proxy.use_default_credentials",
        Switch,
        "false",
        With("gcs_proxy.bucket"),
    )
    .environment(&["BAZEL_REMOTE_GCS_USE_DEFAULT_CREDENTIALS"]),
    gcs("gcs_proxy.json_credentials_file").environment(&["BAZEL_REMOTE_GCS_JSON_CREDENTIALS_FILE"]),
    text("ldap.url", Refused(LDAP)),
    ldap("ldap.base_dn"),
    ldap("ldap.bind_user"),
    ldap("ldap.bind_password"),
    CompatOption::new("ldap.username_attribute", Text, "uid", With("ldap.url"))
        .environment(&["BAZEL_REMOTE_LDAP_USER_ATTRIBUTE"]),
    ldap("ldap.groups_query"),
    CompatOption::new("ldap.cache_time", Integer, "3600", With("ldap.url")),
    s3("s3.endpoint"),
    text("s3.bucket", Refused(CLOUD)),
    CompatOption::new("s3.bucket_lookup_type", Text, "auto", With("s3.bucket")),
    s3("s3.prefix"),
    s3("s3.auth_method"),
    s3("s3.access_key_id"),
    s3("s3.secret_access_key"),
    s3("s3.session_token"),
    CompatOption::new("s3.signature_type", Text, "v4", With("s3.bucket")),
    s3("s3.aws_shared_credentials_file").environment(&[
        "BAZEL_REMOTE_S3_AWS_SHARED_CREDENTIALS_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    ]),
    CompatOption::new("s3.aws_profile", Text, "default", With("s3.bucket"))
        .environment(&["BAZEL_REMOTE_S3_AWS_PROFILE", "AWS_PROFILE"]),
    s3_switch("s3.disable_ssl"),
    s3_switch("s3.update_timestamps"),
    s3("s3.iam_role_endpoint"),
    s3("s3.region"),
    CompatOption::new("s3.key_version", Integer, "2", With("s3.bucket")),
    CompatOption::new("s3.max_idle_conns", Integer, "1024", With("s3.bucket")),
    text("azblob.tenant_id", Refused(CLOUD))
        .environment(&["BAZEL_REMOTE_AZBLOB_TENANT_ID", "AZURE_TENANT_ID"]),
    azblob("azblob.storage_account"),
    azblob("azblob.container_name"),
    azblob("azblob.prefix"),
    CompatOption::new("azblob.update_timestamps", Switch, "false", With("azblob.tenant_id")),
    azblob("azblob.auth_method"),
    azblob("azblob.shared_key")
        .environment(&["BAZEL_REMOTE_AZBLOB_SHARED_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]),
    azblob("azblob.client_id").environment(&["BAZEL_REMOTE_AZBLOB_CLIENT_ID", "AZURE_CLIENT_ID"]),
    azblob("azblob.client_secret")
        .environment(&["BAZEL_REMOTE_AZBLOB_SECRET_CLIENT_SECRET", "AZURE_CLIENT_SECRET"]),
    azblob("azblob.cert_path")
        .environment(&["BAZEL_REMOTE_AZBLOB_CERT_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"]),
];
