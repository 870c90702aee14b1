//! Recipes: options in a TOML file, under those of the command line.

use std::fs;
use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Empty, Value};

use super::{OptionError, StreamScalingOptions};

impl StreamScalingOptions {
    /// These options, and for what they leave open those of the recipe at `path`.
    ///
    /// # Errors
    /// The file can't be read, is not TOML, or holds something that is no option.
    pub fn over_recipe(&self, path: &Path) -> Result<Self, OptionError> {
        let text = fs::read_to_string(path).map_err(|source| OptionError::File {
            option: "--recipe",
            path: path.to_owned(),
            source,
        })?;
        let unusable = |error: figment::Error| OptionError::Recipe { path: path.to_owned(), problem: describe(&error) };
        let mut recipe: Dict = Figment::from(Toml::string(&text)).extract().map_err(unusable)?;
        listed(&mut recipe)?;
        let given = self.given()?;
        Figment::from(Serialized::globals(recipe)).merge(Serialized::globals(given)).extract().map_err(unusable)
    }

    /// The options that are present, by their names without dashes in front.
    pub(super) fn given(&self) -> Result<Dict, OptionError> {
        let mut given = dictionary(self)?;
        given.retain(|_, value| match value {
            Value::Empty(_, Empty::None) => false,
            Value::Array(_, values) => !values.is_empty(),
            _ => true,
        });
        Ok(given)
    }
}

/// All options, by their names without dashes in front.
fn dictionary(options: &StreamScalingOptions) -> Result<Dict, OptionError> {
    let value = Value::serialize(options).map_err(|error| OptionError::Unrecordable(error.to_string()))?;
    // A struct is a dictionary.
    Ok(value.into_dict().unwrap_or_default())
}

/// Makes lists of single values, where an option takes a list.
fn listed(recipe: &mut Dict) -> Result<(), OptionError> {
    let options = dictionary(&StreamScalingOptions::default())?;
    for (name, value) in recipe {
        if matches!((options.get(name), &*value), (Some(Value::Array(..)), single) if single.as_array().is_none()) {
            *value = Value::from(vec![value.clone()]);
        }
    }
    Ok(())
}

fn describe(error: &figment::Error) -> String {
    match &error.kind {
        Kind::UnknownField(name, _) => {
            format!(
                "{name} is no option; the names are those of `psbench stream-scaling --help`, without dashes in front"
            )
        }
        kind if error.path.is_empty() => kind.to_string().trim_end().to_owned(),
        Kind::InvalidType(found, expected) if matches!(expected.as_str(), "u16" | "u32" | "u64") => {
            let name = error.path.first().map_or("", String::as_str);
            format!("{name}: found {found}, write a whole number without quotes, for example {name} = 1000")
        }
        kind => format!("{}: {kind}", error.path.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn over(options: &StreamScalingOptions, recipe: &str) -> Result<StreamScalingOptions, OptionError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(recipe.as_bytes()).unwrap();
        options.over_recipe(file.path())
    }

    #[test]
    fn the_command_line_wins() {
        let given = StreamScalingOptions {
            task_count: Some(5),
            data_size_bytes: vec!["1MB".parse().unwrap()],
            ..Default::default()
        };
        let merged = over(
            &given,
            "task-count = 7\ntask-sleep = 0.5\ndata-size-bytes = [1, '2kB']\nverify = true\nlog-level = 'info'\nmax-workers = [4, 8]",
        )
        .unwrap();
        assert_eq!(merged.task_count, Some(5));
        assert_eq!(merged.data_size_bytes, given.data_size_bytes);
        assert_eq!(merged.task_sleep, Some("500ms".parse().unwrap()));
        assert_eq!(merged.verify, Some(true));
        assert_eq!(merged.max_workers, [4, 8]);
    }

    #[test]
    fn a_recipe_alone_reads_back_what_is_recorded() {
        let options = StreamScalingOptions {
            data_size_bytes: vec!["100kB".parse().unwrap(), "1MiB".parse().unwrap()],
            rate: Some("200/s".parse().unwrap()),
            stream_servers: vec!["[::1]:6379".into()],
            ..Default::default()
        };
        let given = options.given().unwrap();
        let recipe: String =
            given.iter().map(|(key, value)| format!("{key} = {}\n", serde_json::to_string(value).unwrap())).collect();
        assert_eq!(over(&StreamScalingOptions::default(), &recipe).unwrap(), options);
    }

    #[test]
    fn a_list_may_be_a_single_value() {
        let merged = over(&StreamScalingOptions::default(), "data-size-bytes = '1MB'\nmax-workers = 4").unwrap();
        assert_eq!(merged.data_size_bytes, ["1MB".parse().unwrap()]);
        assert_eq!(merged.max_workers, [4]);
    }

    #[test]
    fn mistakes_are_named() {
        for (recipe, expected) in [
            ("task-cuont = 1", "task-cuont is no option"),
            ("task-sleep = 'soon'", "task-sleep: \"soon\" is not a duration"),
            ("data-size-bytes = [1, '10XB']", "\"10XB\" is not a size"),
            ("task-count = -1", "task-count: "),
            ("task-count = '1e3'", "write a whole number without quotes, for example task-count = 1000"),
            ("task-count = ", "TOML"),
        ] {
            let error = over(&StreamScalingOptions::default(), recipe).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let missing = StreamScalingOptions::default().over_recipe(Path::new("/nonexistent.toml")).unwrap_err();
        assert!(missing.to_string().starts_with("--recipe /nonexistent.toml: No such file"), "{missing}");
    }
}
