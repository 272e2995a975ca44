-- The current label of each target is kept, and metrics keep their bound text. Who labels or withdraws
-- waits until it is done; no table that an application writes is touched.

lock table flywheel._labels, flywheel._label_withdrawals in share row exclusive mode;

create table flywheel._label_heads (
  trace_id uuid not null,
  span_id uuid not null,
  validator_id integer not null,
  label_id bigint not null,
  precedence smallint not null,
  constraint _label_heads_pkey primary key (trace_id, span_id, validator_id),
  constraint _label_heads_trace_id_label_id_fkey foreign key (trace_id, label_id)
    references flywheel._labels (trace_id, label_id)
);

comment on table flywheel._label_heads is 'The current label of each target and validator: of those not withdrawn, the newest of the highest precedence. Kept by the triggers of _labels and _label_withdrawals.';
comment on column flywheel._label_heads.trace_id is 'The trace.';
comment on column flywheel._label_heads.span_id is 'The span, or the nil uuid when the label is about the trace itself.';
comment on column flywheel._label_heads.validator_id is 'The validator.';
comment on column flywheel._label_heads.label_id is 'The label.';
comment on column flywheel._label_heads.precedence is 'Precedence of the label.';

insert into flywheel._label_heads (trace_id, span_id, validator_id, label_id, precedence)
select distinct on (l.trace_id, l.span_id, l.validator_id) l.trace_id, l.span_id, l.validator_id, l.label_id, l.precedence
from flywheel._labels as l
where l.validator_id is not null
  and not exists (
    select from flywheel._label_withdrawals as w where w.trace_id = l.trace_id and w.label_id = l.label_id
  )
order by l.trace_id, l.span_id, l.validator_id, l.precedence desc, l.label_id desc;

alter table flywheel._metric_streams
  drop constraint fact_is_known,
  add constraint fact_is_known check (fact in ('traces', 'spans', 'verdicts', 'current_labels'));

comment on column flywheel._metric_streams.fact is 'traces, spans, verdicts or current_labels.';

alter table flywheel._metrics add column bound_query text;
update flywheel._metrics set bound_query = query;
alter table flywheel._metrics alter column bound_query set not null;

comment on column flywheel._metrics.bound_query is 'The query as PostgreSQL understood it when it was given, every name qualified and every constant in a form that no setting changes. All that is made later is made of this.';

-- They have other parameters or results.
drop function if exists flywheel._check_metric_query(text, boolean);
drop function if exists flywheel._incremental_query(flywheel._metric_streams, jsonb, text);
drop function if exists flywheel._stream_dirt(flywheel._metric_streams, jsonb);
drop function if exists flywheel._stream_rows(flywheel._metric_streams, text, text);
drop function if exists flywheel._task_retention(double precision);
drop procedure if exists flywheel.enforce_retention(integer);
