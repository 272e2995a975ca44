create or replace view flywheel.failures as
select
  v.created_at,
  d.name as validator,
  coalesce(v.reason, r.description, case when r.language = 'sql' then 'not: ' || r.body end) as reason,
  case when r.subject = 'span' then s.input else t.input end as input,
  case when r.subject = 'span' then s.output else t.output end as output,
  t.pipeline,
  s.node,
  t.variant,
  t.environment,
  t.release,
  t.user_id,
  t.session_id,
  v.score,
  r.version,
  v.trace_id,
  nullif(v.span_id, flywheel._no_span()) as span_id,
  v.revision
from flywheel._verdicts as v
join flywheel._validator_versions as r on r.version_id = v.version_id
join flywheel._validators as d on d.validator_id = r.validator_id
left join flywheel.traces as t on t.trace_id = v.trace_id
left join flywheel.spans as s on s.trace_id = v.trace_id and s.span_id = v.span_id
where v.status = 'failed';

comment on view flywheel.failures is 'Failing verdicts with what a person wants to read: the check, the reason and the texts.';
comment on column flywheel.failures.created_at is 'When the verdict was written.';
comment on column flywheel.failures.validator is 'Name of the validator.';
comment on column flywheel.failures.reason is 'Why it failed.';
comment on column flywheel.failures.input is 'Input of the trace or span.';
comment on column flywheel.failures.output is 'Output of the trace or span.';
comment on column flywheel.failures.pipeline is 'Pipeline of the trace.';
comment on column flywheel.failures.node is 'Node of the span; null when the subject is the trace.';
comment on column flywheel.failures.variant is 'Variant of the trace.';
comment on column flywheel.failures.environment is 'Environment of the trace.';
comment on column flywheel.failures.release is 'Release of the trace.';
comment on column flywheel.failures.user_id is 'User of the trace.';
comment on column flywheel.failures.session_id is 'Session of the trace.';
comment on column flywheel.failures.score is 'Score of the verdict, if any.';
comment on column flywheel.failures.version is 'Version of the validator.';
comment on column flywheel.failures.trace_id is 'The trace.';
comment on column flywheel.failures.span_id is 'The span; null when the subject is the trace.';
comment on column flywheel.failures.revision is 'Revision of the trace or span.';
