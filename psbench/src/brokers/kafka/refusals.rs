//! What a cluster refuses, and what to do about it: which right a user lacks, and for what.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::BrokerError;
use super::KafkaSettings;
use super::context::{code_of, is_refusal};
use super::settings::OF_A_TRIAL;

/// Said of a cluster that does not know this user.
pub(super) const NOT_LET_IN: &str = "; check --kafka-option security.protocol, sasl.mechanism, sasl.username and ssl.ca.location, and the \
                                     password in PSBENCH_KAFKA_SASL_PASSWORD";

/// What is done with a topic, which takes a right on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Make,
    Look,
    Read,
    Write,
    Delete,
}

impl Step {
    /// As `kafka-acls.sh --operation` has it.
    fn right(self) -> &'static str {
        match self {
            Self::Make => "Create",
            Self::Look => "Describe",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Delete => "Delete",
        }
    }
}

/// The first part, which all topics of trials have; `None` of a topic that is none of a trial's.
fn first_part(topic: &str) -> Option<&str> {
    let (first, unique) = topic.split_at_checked(topic.len().checked_sub(OF_A_TRIAL)?)?;
    let unique = unique.strip_prefix('-')?;
    unique.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(first)
}

/// Whether a topic is a trial's own.
pub(super) fn is_of_a_trial(topic: &str) -> bool {
    first_part(topic).is_some()
}

impl KafkaSettings {
    /// An error of the client's at a topic: as [`failed`](Self::failed), and of a right that is missing, which.
    pub(super) fn failed_at(&self, step: Step, action: &str, topic: &str, error: KafkaError) -> BrokerError {
        let user = match self.properties.get("sasl.username") {
            Some(name) => format!("user {name}"),
            None => "this user".to_owned(),
        };
        let remedy = match code_of(&error) {
            Some(Code::TopicAuthorizationFailed) => {
                let right = step.right();
                let principal = self.properties.get("sasl.username").map_or("NAME", |name| name);
                let (pattern, hint) = match first_part(topic) {
                    Some(first) => (format!("--topic {first} --resource-pattern-type prefixed"), ""),
                    // The cluster tells nobody without rights whether there is such a topic.
                    None if step == Step::Make => (format!("--topic {topic}"), " (or Describe, if it is there)"),
                    None => (format!("--topic {topic}"), ""),
                };
                format!(
                    "; {user} lacks the right {right} on topic {topic}{hint}: kafka-acls.sh --add --allow-principal User:{principal} \
                     --operation {right} {pattern}"
                )
            }
            Some(Code::ClusterAuthorizationFailed) if step == Step::Write => format!(
                "; {user} lacks the right IdempotentWrite on the cluster, or Write on topic {topic}; without the first \
                 --kafka-option enable.idempotence=false does"
            ),
            Some(Code::ClusterAuthorizationFailed) => {
                format!("; {user} lacks the right {} on the cluster, for topic {topic}", step.right())
            }
            // The first is what clients of an older protocol are told.
            Some(Code::InvalidRequest | Code::TopicDeletionDisabled) if step == Step::Delete => {
                "; does the broker delete topics? delete.topic.enable=false keeps them".to_owned()
            }
            _ => return self.failed(action, error),
        };
        self.error(action, error, remedy)
    }

    /// An error of the client's, with its remedy where there is one.
    pub(super) fn failed(&self, action: &str, error: KafkaError) -> BrokerError {
        let remedy = match code_of(&error) {
            Some(Code::InvalidReplicationFactor) => "; lower --stream-replication to the number of brokers",
            Some(Code::PolicyViolation | Code::InvalidConfig) => {
                "; the broker's policy does not allow it: lower --stream-retention or --stream-max-message-bytes"
            }
            Some(Code::MessageSizeTooLarge) => {
                "; raise the topic's max.message.bytes (--stream-max-message-bytes), or use --stream-method proxy"
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                "; was the topic deleted while it was in use?"
            }
            Some(
                Code::MessageTimedOut | Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut,
            ) => "; is the broker running? --kafka-option message.timeout.ms bounds how long psbench waits for it",
            Some(Code::InvalidTopic) => {
                "; to the cluster a name is taken, too, if another differs from it in . and _ alone: choose another --stream-topic"
            }
            Some(Code::ThrottlingQuotaExceeded) => {
                "; a quota of the cluster (controller_mutation_rate) bounds how many topics this user makes and deletes"
            }
            Some(code) if is_refusal(code) => NOT_LET_IN,
            _ => "",
        };
        self.error(action, error, remedy.into())
    }

    fn error(&self, action: &str, error: KafkaError, remedy: String) -> BrokerError {
        BrokerError::Kafka { broker: self.label(), action: action.into(), source: Box::new(error), remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_trials_have_a_first_part() {
        let unique = "0123456789abcdef0123456789abcdef";
        assert_eq!(first_part(&format!("a-b-{unique}")), Some("a-b"));
        for other in ["", "frames", unique, &format!("a_{unique}"), "a-0123456789abcdef0123456789abcdeg", "ä"] {
            assert_eq!(first_part(other), None, "{other}");
        }
    }
}
