//! Addresses of servers.

use super::OptionError;

/// `host:port`, with an IPv6 address in brackets, as the host and the port.
pub(super) fn parse(option: &'static str, text: &str) -> Result<(String, u16), OptionError> {
    let fail = |problem: &str| {
        let example = "write host:port, for example localhost:6379 or [::1]:6379";
        OptionError::invalid(option, &text, format!("{problem}; {example}"))
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| fail("no port"))?;
    let host = match host.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']').ok_or_else(|| fail("no closing bracket"))?,
        None if host.contains([':', '/', '@']) => return Err(fail("not a host")),
        None => host,
    };
    if host.is_empty() {
        return Err(fail("no host"));
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(fail("not a port from 1 to 65535")),
        Ok(port) => Ok((host.to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_both_kinds_of_addresses() {
        for (text, host, port) in
            [("localhost:6379", "localhost", 6379), ("10.0.0.1:1", "10.0.0.1", 1), ("[::1]:65535", "::1", 65535)]
        {
            assert_eq!(parse("--stream-servers", text).unwrap(), (host.to_owned(), port));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, problem) in [
            ("localhost", "no port"),
            ("localhost:0", "not a port"),
            ("localhost:65536", "not a port"),
            ("localhost:redis", "not a port"),
            (":6379", "no host"),
            ("[::1:6379", "no closing bracket"),
            ("::1:6379", "not a host"),
            ("redis://localhost:6379", "not a host"),
        ] {
            let error = parse("--stream-servers", text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
