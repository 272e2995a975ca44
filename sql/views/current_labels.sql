create or replace view flywheel.current_labels as
select
  l.trace_id,
  nullif(l.span_id, flywheel._no_span()) as span_id,
  l.revision,
  d.name as validator,
  l.validator_id,
  r.version,
  l.passed,
  l.gold_label,
  l.score,
  l.reason,
  l.corrected_output,
  l.labeler,
  l.source,
  l.split,
  l.sampling_probability,
  l.created_at,
  l.label_id,
  l.input,
  l.output,
  l.pipeline,
  l.node,
  coalesce(t.trace_id, s.trace_id) is not null as is_current,
  l.attributes,
  l.session_role
from flywheel._current_labels as l
join flywheel._validators as d on d.validator_id = l.validator_id
join flywheel._validator_versions as r on r.version_id = l.version_id
left join flywheel.traces as t
  on t.trace_id = l.trace_id and l.span_id = flywheel._no_span()
  and t.revision = l.revision and t.received_at = l.target_received_at
left join flywheel.spans as s
  on s.trace_id = l.trace_id and s.span_id = l.span_id
  and s.revision = l.revision and s.received_at = l.target_received_at;

comment on view flywheel.current_labels is
  'The label that counts for each trace or span and validator: the newest that is not withdrawn. A person''s comes before a model''s, and one that decides (passed, gold_label or score) before one that only corrects the output. Corrections about no validator are in flywheel.corrections.';
comment on column flywheel.current_labels.trace_id is 'The trace. A label outlives it.';
comment on column flywheel.current_labels.span_id is 'The span; null when the label is about the trace itself.';
comment on column flywheel.current_labels.revision is 'Revision of the trace or span the label is about.';
comment on column flywheel.current_labels.validator is 'Name of the validator the label answers.';
comment on column flywheel.current_labels.validator_id is 'Identity of the validator.';
comment on column flywheel.current_labels.version is 'Version of the validator that had judged the target, or the newest at the time.';
comment on column flywheel.current_labels.passed is 'What the validator should say; null if the label does not tell.';
comment on column flywheel.current_labels.gold_label is 'The true class, if the label names one.';
comment on column flywheel.current_labels.score is 'The true score, if the label gives one.';
comment on column flywheel.current_labels.reason is 'Why, in the labeler''s words.';
comment on column flywheel.current_labels.corrected_output is 'What the output should have been, if this label tells.';
comment on column flywheel.current_labels.labeler is 'Who judged, as the caller of label() says.';
comment on column flywheel.current_labels.source is 'human; llm_default (a model''s proposal); human_confirmed, human_edited (a proposal that a person accepted or changed).';
comment on column flywheel.current_labels.split is 'train (examples for judges), dev or test. A trace and all its spans share one, for good.';
comment on column flywheel.current_labels.sampling_probability is 'With which probability the target was chosen for labeling, if known.';
comment on column flywheel.current_labels.created_at is 'When the label was made.';
comment on column flywheel.current_labels.label_id is 'Identity of the label; a greater one is newer.';
comment on column flywheel.current_labels.input is 'Input at that revision: the label''s own copy.';
comment on column flywheel.current_labels.output is 'Output at that revision: the label''s own copy.';
comment on column flywheel.current_labels.pipeline is 'Pipeline of the trace; null for a span whose trace had not arrived.';
comment on column flywheel.current_labels.node is 'Node of the span; null for a trace.';
comment on column flywheel.current_labels.is_current is 'Whether the trace or span still exists at that revision.';
comment on column flywheel.current_labels.attributes is 'Attributes at that revision: the label''s own copy.';
comment on column flywheel.current_labels.session_role is 'The role that was logged in and called label().';
