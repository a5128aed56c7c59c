//! The fields that say how tokens are picked: `temperature`, `top_p`, `seed`, both penalties and `logit_bias`.

use obsidian_types::limits::{MAX_LOGIT_BIAS, MAX_LOGIT_BIAS_ENTRIES, MAX_PENALTY, MAX_TEMPERATURE};
use obsidian_types::{Sampling, TokenId};
use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};

/// Sampling as the client wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParsedSampling {
    sampling: Sampling,
    seed: Option<u64>,
}

impl ParsedSampling {
    /// `temperature`.
    pub(crate) fn temperature(&self) -> f32 {
        self.sampling.temperature
    }

    /// `top_p`.
    pub(crate) fn top_p(&self) -> f32 {
        self.sampling.top_p
    }

    /// The sampling, with `seed` if the client named none.
    pub(crate) fn or_seed(self, seed: u64) -> Sampling {
        Sampling { seed: self.seed.unwrap_or(seed), ..self.sampling }
    }
}

/// Takes the fields.
pub(crate) fn take(fields: &mut Fields) -> Result<ParsedSampling, ApiError> {
    let ParsedSampling { sampling, .. } = take_plain(fields)?;
    let frequency_penalty = decimal(fields, "frequency_penalty", -MAX_PENALTY, MAX_PENALTY, 0.0)?;
    let presence_penalty = decimal(fields, "presence_penalty", -MAX_PENALTY, MAX_PENALTY, 0.0)?;
    let seed = fields.integer("seed", i64::MIN, i64::MAX)?.map(i64::cast_unsigned);
    let logit_bias = logit_bias(fields)?.into();
    let sampling = Sampling { frequency_penalty, presence_penalty, logit_bias, ..sampling };
    Ok(ParsedSampling { sampling, seed })
}

/// Takes `temperature` and `top_p`, for endpoints that know no more.
pub(crate) fn take_plain(fields: &mut Fields) -> Result<ParsedSampling, ApiError> {
    let defaults = Sampling::default();
    let temperature = decimal(fields, "temperature", 0.0, MAX_TEMPERATURE, defaults.temperature)?;
    let top_p = decimal(fields, "top_p", 0.0, 1.0, defaults.top_p)?;
    Ok(ParsedSampling { sampling: Sampling { temperature, top_p, ..defaults }, seed: None })
}

fn decimal(fields: &mut Fields, name: &str, low: f32, high: f32, absent: f32) -> Result<f32, ApiError> {
    let value = fields.decimal(name, f64::from(low), f64::from(high))?;
    Ok(value.map_or(absent, |value| value as f32))
}

/// Ids ascend. Whether the model has them is checked where the model is known.
fn logit_bias(fields: &mut Fields) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let name = "logit_bias";
    let Some(value) = fields.take(name) else {
        return Ok(Vec::new());
    };
    let Value::Object(entries) = value else {
        return Err(wrong_type(name, "an object", &value));
    };
    if entries.len() > MAX_LOGIT_BIAS_ENTRIES {
        let message = format!(
            "Invalid '{name}': too many properties. Expected an object with at most {MAX_LOGIT_BIAS_ENTRIES} properties, but got an object with {} properties instead.",
            entries.len()
        );
        return Err(ApiError::invalid(name, "object_above_max_properties", message));
    }
    let mut biases = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        // Written as the model's own number is, so that no two keys mean one token.
        let Some(id) = key.parse::<TokenId>().ok().filter(|id| id.to_string() == key) else {
            let message = "Invalid key in 'logit_bias': expected token ids as decimal numbers, for example \"1042\".";
            return Err(ApiError::invalid(name, "invalid_value", message));
        };
        let Some(bias) = value.as_f64() else {
            return Err(wrong_type(&format!("{name}.{id}"), "a number", &value));
        };
        if !(-f64::from(MAX_LOGIT_BIAS)..=f64::from(MAX_LOGIT_BIAS)).contains(&bias) {
            let message = format!(
                "Invalid value for '{name}.{id}': expected a number from -{MAX_LOGIT_BIAS} (bans the token) to {MAX_LOGIT_BIAS}, but got {bias} instead."
            );
            return Err(ApiError::invalid(name, "invalid_value", message));
        }
        biases.push((id, bias as f32));
    }
    biases.sort_unstable_by_key(|(id, _)| *id);
    Ok(biases)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Fields, take};

    fn refused(body: Value) -> (Option<&'static str>, String) {
        let error = take(&mut Fields::open("", body).unwrap()).unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn everything_is_read() {
        let body = json!({
            "temperature": 0.5, "top_p": 0.9, "seed": -1, "frequency_penalty": -2, "presence_penalty": 1.5,
            "logit_bias": {"300": 5, "7": -100, "0": 0.25},
        });
        let mut fields = Fields::open("", body).unwrap();
        let sampling = take(&mut fields).unwrap().or_seed(3);
        fields.finish().unwrap();
        assert_eq!((sampling.temperature, sampling.top_p, sampling.seed), (0.5, 0.9, u64::MAX));
        assert_eq!((sampling.frequency_penalty, sampling.presence_penalty), (-2.0, 1.5));
        assert_eq!(*sampling.logit_bias, [(0, 0.25), (7, -100.0), (300, 5.0)]);
        let sampling = take(&mut Fields::open("", json!({"logit_bias": {}})).unwrap()).unwrap().or_seed(3);
        assert!(sampling.seed == 3 && !sampling.adjusts());
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_the_limit() {
        assert_eq!(refused(json!({"frequency_penalty": 2.1})).0, Some("decimal_above_max_value"));
        assert_eq!(refused(json!({"presence_penalty": -2.1})).0, Some("decimal_below_min_value"));
        let (code, message) = refused(json!({"logit_bias": {"7": -101}}));
        assert_eq!(code, Some("invalid_value"));
        assert!(message.contains("'logit_bias.7'") && message.contains("-100"), "{message}");
        for key in ["-1", "01", "+1", "1.0", "hello", "", "4294967296"] {
            assert_eq!(refused(json!({"logit_bias": {key: 1}})).0, Some("invalid_value"), "{key}");
        }
        assert_eq!(refused(json!({"logit_bias": {"7": "much"}})).0, Some("invalid_type"));
        assert_eq!(refused(json!({"logit_bias": [1]})).0, Some("invalid_type"));
        let many: serde_json::Map<String, Value> = (0..301).map(|id| (id.to_string(), json!(1))).collect();
        assert_eq!(refused(json!({"logit_bias": many})).0, Some("object_above_max_properties"));
    }
}
