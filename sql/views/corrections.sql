create or replace view flywheel.corrections as
select
  l.trace_id,
  nullif(l.span_id, flywheel._no_span()) as span_id,
  l.revision,
  l.input,
  l.output,
  l.corrected_output,
  l.reason,
  d.name as validator,
  l.labeler,
  l.source,
  l.split,
  l.created_at,
  l.pipeline,
  l.node,
  l.label_id
from flywheel._standing_labels as l
left join flywheel._validators as d on d.validator_id = l.validator_id
where l.corrected_output is not null
  and l.precedence >= 2
  and not exists (
    select from flywheel._standing_labels as n
    where n.trace_id = l.trace_id
      and n.span_id = l.span_id
      and n.label_id > l.label_id
      and n.corrected_output is not null
      and n.precedence >= 2
  );

comment on view flywheel.corrections is
  'What the output should have been: the newest correction by a person for each trace or span, with or without a validator.';
comment on column flywheel.corrections.trace_id is 'The trace. A correction outlives it.';
comment on column flywheel.corrections.span_id is 'The span; null when the trace itself was corrected.';
comment on column flywheel.corrections.revision is 'Revision of the trace or span that was corrected.';
comment on column flywheel.corrections.input is 'Input at that revision.';
comment on column flywheel.corrections.output is 'Output at that revision: what was wrong.';
comment on column flywheel.corrections.corrected_output is 'What it should have been.';
comment on column flywheel.corrections.reason is 'Why, in the labeler''s words.';
comment on column flywheel.corrections.validator is 'The validator the correction is about; null for none.';
comment on column flywheel.corrections.labeler is 'Who corrected, as the caller of label() says.';
comment on column flywheel.corrections.source is 'human, human_confirmed or human_edited.';
comment on column flywheel.corrections.split is 'train, dev or test: that of the trace.';
comment on column flywheel.corrections.created_at is 'When it was corrected.';
comment on column flywheel.corrections.pipeline is 'Pipeline of the trace; null for a span whose trace had not arrived.';
comment on column flywheel.corrections.node is 'Node of the span; null for a trace.';
comment on column flywheel.corrections.label_id is 'Identity of the label: flywheel.withdraw_label() takes it.';
