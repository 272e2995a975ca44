create or replace view flywheel.verdicts as
select
  v.trace_id,
  nullif(v.span_id, flywheel._no_span()) as span_id,
  v.revision,
  d.name as validator,
  d.validator_id,
  r.version,
  r.language,
  v.status::text as status,
  case v.status when 'passed' then true when 'failed' then false end as passed,
  v.score,
  v.predicted_label,
  case
    when v.status = 'failed' then coalesce(v.reason, r.description, case when r.language = 'sql' then 'not: ' || r.body end)
    else v.reason
  end as reason,
  v.confidence,
  v.error,
  case
    when v.status = 'skipped' then coalesce(v.skipped_reason, 'the check came to null: there was nothing to decide')
  end as skipped_reason,
  v.duration_ms,
  v.created_at,
  v.details,
  k.pipeline,
  k.variant,
  k.environment,
  k.release,
  k.node,
  k.day
from flywheel._verdicts as v
join flywheel._validator_versions as r on r.version_id = v.version_id
join flywheel._validators as d on d.validator_id = r.validator_id
-- An aggregate has one row, whatever copies there are. So the planner leaves it out of a query that
-- names none of its columns, looks one key up for one verdict, and remembers the keys it has seen.
left join lateral (
  select min(k.pipeline) as pipeline, min(k.variant) as variant, min(k.environment) as environment,
    min(k.release) as release, min(k.node) as node, min(k.day) as day
  from flywheel._dimensions as k
  where k.dimension_id = v.dimension_id
) as k on true;

comment on view flywheel.verdicts is
  'What each validator found: at most one row per (target, validator, version), about the target''s current revision.';
comment on column flywheel.verdicts.trace_id is 'The trace.';
comment on column flywheel.verdicts.span_id is 'The span; null when the subject is the trace.';
comment on column flywheel.verdicts.revision is 'Revision of the trace or span the verdict is about.';
comment on column flywheel.verdicts.validator is 'Name of the validator.';
comment on column flywheel.verdicts.validator_id is 'Identity of the validator.';
comment on column flywheel.verdicts.version is 'Version of the validator that decided.';
comment on column flywheel.verdicts.language is 'Language of that version.';
comment on column flywheel.verdicts.status is 'passed, failed, error (the check itself failed) or skipped (nothing to decide).';
comment on column flywheel.verdicts.passed is 'The decision; null for error and skipped.';
comment on column flywheel.verdicts.score is 'Number behind the decision, if the validator has a score.';
comment on column flywheel.verdicts.predicted_label is 'Class the validator predicted, if any.';
comment on column flywheel.verdicts.reason is 'Why: the validator''s reason; for a failure without one its description, or the check that did not hold.';
comment on column flywheel.verdicts.confidence is 'Confidence in the decision, 0 to 1, if known.';
comment on column flywheel.verdicts.error is 'Message of the error inside the check.';
comment on column flywheel.verdicts.skipped_reason is 'Why there was nothing to decide.';
comment on column flywheel.verdicts.duration_ms is 'Milliseconds the check took, where each is measured; null for set-based SQL.';
comment on column flywheel.verdicts.created_at is 'When the verdict was written.';
comment on column flywheel.verdicts.details is 'Anything else the validator returned.';
comment on column flywheel.verdicts.pipeline is 'Pipeline when the verdict was written.';
comment on column flywheel.verdicts.variant is 'Variant when the verdict was written.';
comment on column flywheel.verdicts.environment is 'Environment when the verdict was written.';
comment on column flywheel.verdicts.release is 'Release when the verdict was written.';
comment on column flywheel.verdicts.node is 'Node of the span; null when the subject is the trace.';
comment on column flywheel.verdicts.day is 'UTC day on which the trace or span started.';
