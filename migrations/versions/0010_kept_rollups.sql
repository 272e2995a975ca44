-- A column with a constant default: a short lock, and on no table that an application writes.
alter table flywheel._metric_streams add column keeps_rollups boolean not null default false;

comment on column flywheel._metric_streams.keeps_rollups is 'Whether it counts rows that retention has removed (set_retention(..., keep_rollups => true)), so that the rows do not tell what it should hold.';

-- They have other parameters or results.
drop function if exists flywheel._describe_expression(text, text[]);
drop function if exists flywheel._measure_text(flywheel._metric_streams, jsonb, text);
drop function if exists flywheel._stream_query(flywheel._metric_streams, text, text);
drop function if exists flywheel._stream_statements(flywheel._metric_streams, text);
drop function if exists flywheel._index_metric_table(text);
drop function if exists flywheel._try_lock_fact(text, double precision);

-- Streams get indexes that texts of any length fit into.
do $$
declare
  v_index text;
begin
  for v_index in
    select c.relname
    from pg_catalog.pg_class as c
    where c.relnamespace = 'flywheel'::pg_catalog.regnamespace and c.relkind = 'i' and c.relname ~ '^_stream_\d+(_items)?_key$'
  loop
    execute pg_catalog.format('drop index flywheel.%I', v_index);
  end loop;
end
$$;
