-- A column with a constant default: a short lock, and on no table that an application writes.
alter table flywheel._metric_streams add column keeps_rollups boolean not null default false;

comment on column flywheel._metric_streams.keeps_rollups is 'Whether it counts rows that retention has removed (set_retention(..., keep_rollups => true)), so that the rows do not tell what it should hold.';

-- They have other parameters or results.
drop function if exists flywheel._describe_expression(text, text[]);
drop function if exists flywheel._measure_text(flywheel._metric_streams, jsonb, text);
drop function if exists flywheel._stream_query(flywheel._metric_streams, text, text);
drop function if exists flywheel._stream_statements(flywheel._metric_streams, text);
drop function if exists flywheel._index_metric_table(text);
