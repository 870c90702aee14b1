//! The multi connector: which connectors, and what each is for.

use psbench_connectors::ConnectorSpec;
use psbench_connectors::multi::{Part, Policy};

use super::choices::{ConnectorName, choose_for};
use super::{OptionError, StreamScalingOptions};
use crate::units::Size;

const OPTION: &str = "--ps-multi";
const GRAMMAR: &str = "write NAME[,min=SIZE][,max=SIZE][,priority=N][,host=REGEX][,tag=NAME]…";

impl StreamScalingOptions {
    pub(super) fn multi(&mut self, sizes: &[Size], notes: &mut Vec<String>) -> Result<ConnectorSpec, OptionError> {
        if self.ps_multi.is_empty() {
            return Err(OptionError::Missing { option: OPTION, needed_by: "--ps-connector multi" });
        }
        let mut parts = Vec::new();
        for text in self.ps_multi.clone() {
            let (name, policy) = part(&text)?;
            parts.push(Part { spec: self.connector_called(name, sizes, notes)?, policy });
        }
        let tags = self.ps_tags.clone();
        let taken =
            |size: &Size| parts.iter().any(|part| part.policy.takes_size(size.bytes()) && part.policy.has_tags(&tags));
        if let Some(size) = sizes.iter().find(|size| !taken(size)) {
            let tagged = if tags.is_empty() { String::new() } else { format!(" with --ps-tags {}", tags.join(" ")) };
            let problem = format!("no part takes an item of {size}{tagged}; add one, or widen one's min, max or tags");
            return Err(OptionError::invalid(OPTION, &self.ps_multi.join(" "), problem));
        }
        Ok(ConnectorSpec::Multi { parts, tags })
    }
}

/// One connector's name and its policy.
fn part(text: &str) -> Result<(ConnectorName, Policy), OptionError> {
    let wrong = |problem: String| OptionError::invalid(OPTION, &text, problem);
    let mut fields = text.split(',');
    let name = choose_for(OPTION, fields.next().unwrap_or_default())?;
    if name == ConnectorName::Multi {
        return Err(wrong("a part can't be made of parts".into()));
    }
    let mut policy = Policy::default();
    for field in fields {
        let (condition, value) = field.split_once('=').ok_or_else(|| wrong(format!("{field}: {GRAMMAR}")))?;
        let size = || value.parse().map(Size::bytes).map_err(|error| wrong(format!("{condition}: {error}")));
        match condition {
            "min" => policy.min_size = size()?,
            "max" => policy.max_size = Some(size()?),
            "priority" => {
                let problem = |_| wrong(format!("priority: {value} is not a whole number"));
                policy.priority = value.parse().map_err(problem)?;
            }
            "host" => policy.host = Some(value.parse().map_err(|error| wrong(format!("host: {error}")))?),
            "tag" => policy.tags.push(value.to_owned()),
            _ => return Err(wrong(format!("{condition} is no condition; {GRAMMAR}"))),
        }
    }
    if policy.max_size.is_some_and(|max| max < policy.min_size) {
        return Err(wrong("max is less than min".into()));
    }
    Ok((name, policy))
}

#[cfg(test)]
mod tests {
    use psbench_connectors::redis::RedisServer;

    use super::*;

    #[test]
    fn every_condition_is_read() {
        let (name, policy) = part("redis,min=1MB,max=1GiB,priority=-2,host=login.*,tag=site-a,tag=fast").unwrap();
        assert_eq!(name, ConnectorName::Redis);
        let expected = ",min=1000000,max=1073741824,priority=-2,host=login.*,tag=site-a,tag=fast";
        assert_eq!(policy.to_string(), expected);
        assert_eq!(part("file").unwrap(), (ConnectorName::File, Policy::default()));
    }

    #[test]
    fn mistakes_are_one_line_each() {
        for (text, problem) in [
            ("", "--ps-multi : unknown; there are: "),
            ("disk", "--ps-multi disk: unknown; there are: "),
            ("multi", "can't be made of parts"),
            ("file,large", "large: write NAME[,min=SIZE]"),
            ("file,size=3", "size is no condition; write NAME"),
            ("file,min=many", "min: not a size: write bytes"),
            ("file,priority=high", "priority: high is not a whole number"),
            ("file,host=(", "host: not a regular expression"),
            ("file,min=2,max=1", "max is less than min"),
        ] {
            let error = part(text).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains('\n'), "{error}");
        }
    }

    fn options(parts: &[&str]) -> StreamScalingOptions {
        StreamScalingOptions {
            data_size_bytes: vec!["1kB".parse().unwrap(), "2MB".parse().unwrap()],
            ps_connector: Some("multi".into()),
            ps_multi: parts.iter().map(|part| (*part).to_owned()).collect(),
            ..StreamScalingOptions::default()
        }
    }

    #[test]
    fn parts_take_their_usual_options() {
        let mut options = options(&["peer,max=1MB", "redis,min=1MB"]);
        options.ps_port = Some(7);
        let planned = options.plan().unwrap();
        let ConnectorSpec::Multi { parts, .. } = &planned.plan.settings.connector else { panic!() };
        assert_eq!(parts[1].spec, ConnectorSpec::Redis(RedisServer::tcp("localhost", 7)));
        let again = planned.options.plan().unwrap();
        assert_eq!(again.plan.settings.connector, planned.plan.settings.connector);
        options.ps_file_dir = Some("x".into());
        let notes = options.plan().unwrap().notes.join("\n");
        assert!(notes.contains("--ps-file-dir has no effect with --ps-connector multi peer redis"), "{notes}");
        assert!(!notes.contains("ps-host"), "{notes}");
    }

    #[test]
    fn every_size_needs_a_part() {
        let error = options(&["peer,max=1MB"]).plan().unwrap_err().to_string();
        assert!(error.contains("no part takes an item of 2MB"), "{error}");
        let mut tagged = options(&["peer,tag=a"]);
        tagged.ps_tags = vec!["a".into()];
        tagged.plan().unwrap();
        tagged.ps_tags.push("b".into());
        let error = tagged.plan().unwrap_err().to_string();
        assert!(error.contains("with --ps-tags a b"), "{error}");
    }

    #[test]
    fn worker_processes_must_reach_every_part() {
        let error = options(&["peer,max=1MB", "memory"]).plan().unwrap_err().to_string();
        assert!(error.contains("worker processes can't reach it"), "{error}");
    }
}
