create or replace view flywheel.validators as
select
  d.name,
  v.version,
  coalesce(upper_inf(v.active_generations), false) as enabled,
  v.language,
  v.subject,
  case when k.opened_at is null then v.mode else 'queued' end as mode,
  v.pipeline,
  v.node,
  v.kind,
  v.on_fail,
  v.on_error,
  v.sample_rate,
  v.body,
  v.params,
  v.score,
  v.reason,
  v.model,
  v.few_shot_k,
  v.description,
  v.review_every,
  v.reads,
  v.is_total,
  v.created_at,
  v.created_by,
  d.validator_id,
  v.builtin,
  v.budget,
  k.opened_at as breaker_opened_at,
  a.approved_at,
  a.approved_by
from flywheel._validators as d
join lateral (
  select r.*, r as whole
  from flywheel._validator_versions as r
  where r.validator_id = d.validator_id
  order by r.version desc
  limit 1
) as v on true
left join lateral (
  select min(b.created_at) as opened_at
  from flywheel._breaches as b
  where b.version_id = v.version_id and b.opens_breaker
) as k on true
left join flywheel._approvals as a on a.version_id = v.version_id and flywheel._is_approved(v.whole)
where d.dropped_at is null;

comment on view flywheel.validators is 'The newest version of each validator.';
comment on column flywheel.validators.name is 'Name of the validator.';
comment on column flywheel.validators.version is 'Its newest version.';
comment on column flywheel.validators.enabled is 'Whether rows that arrive now are checked by it.';
comment on column flywheel.validators.language is 'sql, python, llm or knn.';
comment on column flywheel.validators.subject is 'What is judged: trace or span.';
comment on column flywheel.validators.mode is 'inline (inside the INSERT) or queued, where its circuit breaker may have moved it.';
comment on column flywheel.validators.pipeline is 'Only rows of this pipeline; null for all.';
comment on column flywheel.validators.node is 'Only spans of this node; null for all.';
comment on column flywheel.validators.kind is 'Only spans of this kind; null for all.';
comment on column flywheel.validators.on_fail is 'record the verdict, or reject the statement.';
comment on column flywheel.validators.on_error is 'allow the row, or reject the statement, when the check itself fails.';
comment on column flywheel.validators.sample_rate is 'Share of traces judged, chosen by a hash of the trace id.';
comment on column flywheel.validators.body is 'The check.';
comment on column flywheel.validators.params is 'Constants the check can read as params.';
comment on column flywheel.validators.score is 'Expression of the score, if any.';
comment on column flywheel.validators.reason is 'Expression of the reason, if any.';
comment on column flywheel.validators.model is 'Model that judges, if any.';
comment on column flywheel.validators.few_shot_k is 'Labelled examples the judge is shown, if any.';
comment on column flywheel.validators.description is 'What a failing verdict means, for people.';
comment on column flywheel.validators.review_every is 'How often a person should look at it again.';
comment on column flywheel.validators.reads is 'Columns the check reads.';
comment on column flywheel.validators.is_total is 'True if the check cannot raise and runs straight inside the statement.';
comment on column flywheel.validators.created_at is 'When this version was made.';
comment on column flywheel.validators.created_by is 'Role that made this version.';
comment on column flywheel.validators.validator_id is 'Identity of the validator.';
comment on column flywheel.validators.builtin is 'The built-in check it was made from, if any.';
comment on column flywheel.validators.budget is 'Python: what differs from the default budget.';
comment on column flywheel.validators.breaker_opened_at is 'When it was moved to the queue for exceeding its budget again and again; enable_validator() moves it back.';
comment on column flywheel.validators.approved_at is 'Judge: when the prompt of this version was approved, if it was.';
comment on column flywheel.validators.approved_by is 'Judge: the role that approved it.';
