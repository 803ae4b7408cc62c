//! Where a server is.

/// A server and one of its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    endpoint: String,
    instance_name: String,
}

/// Why a text is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    /// Another scheme, or none.
    #[error(
        "{0:?} is none of grpc://HOST:PORT[/INSTANCE], grpcs://HOST:PORT[/INSTANCE], unix:PATH"
    )]
    Scheme(String),
    /// There is nothing behind the scheme.
    #[error("{0:?} names no server")]
    Nowhere(String),
    /// The instance is said twice.
    #[error("the address names the instance {in_address:?}, and --instance {given:?}")]
    Instance {
        /// The one of the address.
        in_address: String,
        /// The other.
        given: String,
    },
}

impl ServerAddress {
    /// Reads `grpc://HOST:PORT[/INSTANCE]`, the same with `grpcs://`, or `unix:PATH`. The instance
    /// may be said beside it.
    pub fn parse(text: &str, instance_name: Option<&str>) -> Result<Self, InvalidServer> {
        let text = text.trim();
        let nowhere = || InvalidServer::Nowhere(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(nowhere());
            }
            let instance_name = instance_name.unwrap_or_default().to_owned();
            return Ok(Self { endpoint: format!("unix:{path}"), instance_name });
        }
        let Some((scheme @ ("grpc" | "grpcs"), rest)) = text.split_once("://") else {
            return Err(InvalidServer::Scheme(text.to_owned()));
        };
        let (authority, in_address) = rest.split_once('/').unwrap_or((rest, ""));
        let in_address = in_address.trim_end_matches('/');
        if authority.is_empty() {
            return Err(nowhere());
        }
        let instance_name = match instance_name {
            Some(given) if !in_address.is_empty() && given != in_address => {
                let (in_address, given) = (in_address.to_owned(), given.to_owned());
                return Err(InvalidServer::Instance { in_address, given });
            }
            Some(given) => given,
            None => in_address,
        };
        let endpoint = format!("{scheme}://{authority}");
        Ok(Self { endpoint, instance_name: instance_name.to_owned() })
    }

    /// What is connected to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The instance, "" for the one without a name.
    pub fn instance_name(&self) -> &str {
        &self.instance_name
    }
}
