//! What to do about what a server says.

use redis::RedisError;

/// An error's text, to go on from: some servers end theirs with a full stop.
pub fn said(error: &RedisError) -> String {
    let mut text = error.to_string();
    text.truncate(text.trim_end_matches('.').len());
    text
}

/// What to do about a server's refusal, beginning with a separator, or empty. `named_by`: the option that names the server.
pub fn remedy(error: &RedisError, named_by: &str) -> String {
    let advice = match error.code() {
        Some("NOAUTH") => {
            "it wants a password: put it in PSBENCH_REDIS_PASSWORD, and a user other than the default one in PSBENCH_REDIS_USERNAME"
        }
        Some("WRONGPASS") => {
            "PSBENCH_REDIS_USERNAME or the URL's user, and PSBENCH_REDIS_PASSWORD, are not what this server knows"
        }
        Some("NOPERM") => {
            "the user lacks a right: `ACL SETUSER <user> ~* &* +@read +@write +@pubsub +@connection +unlink +getdel` gives what psbench \
             needs"
        }
        Some("DENIED") => "set a password for it and put that in PSBENCH_REDIS_PASSWORD",
        Some("LOADING") => "it is reading its data: wait until it has",
        Some("READONLY") => {
            "it is a replica: name its master, which `ROLE` tells, or ask its sentinels with --redis-sentinel"
        }
        Some("MASTERDOWN") => {
            "it is a replica whose master is away: name the new master, or ask its sentinels with --redis-sentinel"
        }
        Some("OOM") => {
            "the server is at its maxmemory: raise it, or have fewer objects outstanding (with a maxmemory-policy other than noeviction it \
             would drop objects in their place)"
        }
        Some("MISCONF") => {
            "it can't save its data to disk and takes no more: see to its disk, or `CONFIG SET stop-writes-on-bgsave-error no`"
        }
        Some("MOVED" | "CROSSSLOT" | "CLUSTERDOWN" | "ASK") => {
            "it is a node of a cluster: write redis+cluster://HOST:PORT (or rediss+cluster:// with TLS)"
        }
        _ => return unsaid(error, named_by),
    };
    format!("; {advice}")
}

/// Where it said nothing.
fn unsaid(error: &RedisError, named_by: &str) -> String {
    if error.to_string().contains("without any password configured") {
        "; this server has no password: unset PSBENCH_REDIS_PASSWORD".into()
    } else if error.is_connection_refusal() {
        format!("; no server listens there: start one, or correct {named_by}")
    } else if error.is_timeout() {
        "; the server did not answer in time: is it overloaded, stopped, or is something else listening there?".into()
    } else if error.is_connection_dropped() {
        format!("; is it running, and is {named_by} right?")
    } else {
        String::new()
    }
}
