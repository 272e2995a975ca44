create or replace view flywheel.runs as
select
  r.run_id,
  r.trace_id,
  nullif(r.span_id, flywheel._no_span()) as span_id,
  r.revision,
  d.name as validator,
  v.version,
  r.attempt::integer as attempt,
  r.outcome,
  r.error,
  m.name as model,
  r.requests,
  r.input_tokens,
  r.cached_tokens,
  r.output_tokens,
  r.cost_usd,
  r.latency_ms,
  r.worker,
  r.created_at,
  case
    when p.content is null then r.messages
    else jsonb_build_array(jsonb_build_object('role', 'system', 'content', p.content)) || coalesce(r.messages, '[]')
  end as messages,
  r.replies,
  r.endpoint_model
from flywheel._runs as r
left join flywheel._validator_versions as v on v.version_id = r.version_id
left join flywheel._validators as d on d.validator_id = v.validator_id
left join flywheel._models as m on m.model_id = r.model_id
left join flywheel._prompts as p on p.prompt_id = r.prompt_id;

comment on view flywheel.runs is
  'The run log of queued validators: each attempt, what was sent, what came back, what it took. Kept for flywheel.run_retention, 30 days by default.';
comment on column flywheel.runs.run_id is 'Identity of the run.';
comment on column flywheel.runs.trace_id is 'The trace.';
comment on column flywheel.runs.span_id is 'The span; null when the subject is the trace.';
comment on column flywheel.runs.revision is 'Revision of the trace or span.';
comment on column flywheel.runs.validator is 'Name of the validator.';
comment on column flywheel.runs.version is 'Version of the validator.';
comment on column flywheel.runs.attempt is 'Which attempt it was.';
comment on column flywheel.runs.outcome is 'passed, failed, error or skipped when a verdict came of it; retry, dead or paused when not.';
comment on column flywheel.runs.error is 'What went wrong.';
comment on column flywheel.runs.model is 'The model that was called.';
comment on column flywheel.runs.requests is 'Requests that were made.';
comment on column flywheel.runs.input_tokens is 'Tokens of input, the cached ones included.';
comment on column flywheel.runs.cached_tokens is 'Tokens of input that the endpoint had cached.';
comment on column flywheel.runs.output_tokens is 'Tokens of output.';
comment on column flywheel.runs.cost_usd is 'US dollars by the prices of the time; null without a price.';
comment on column flywheel.runs.latency_ms is 'Milliseconds of all requests together.';
comment on column flywheel.runs.worker is 'Who did it.';
comment on column flywheel.runs.created_at is 'When it ended.';
comment on column flywheel.runs.messages is 'The prompt as it was sent.';
comment on column flywheel.runs.replies is 'The replies as they came.';
comment on column flywheel.runs.endpoint_model is 'The endpoint''s name of the model at that time.';
