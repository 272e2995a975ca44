-- The same by a vector that the caller has made, with the model of the active embedder.

create or replace function flywheel.few_shot_by_vector(
  validator text,
  query vector,
  k integer default 4,
  half_life interval default null,
  disagreement_weight double precision default 0,
  diversity double precision default 0.2,
  exclude_trace uuid default null,
  exclude_session text default null
)
returns table (
  trace_id uuid,
  span_id uuid,
  input text,
  output text,
  passed boolean,
  reason text,
  similarity double precision,
  weight double precision,
  label_id bigint,
  embedder text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_validator_id constant integer := flywheel._find_validator(few_shot_by_vector.validator);
  v_active constant flywheel._embedders := flywheel._active_embedder();
begin
  perform flywheel._check_retrieval(k, half_life, disagreement_weight, diversity);
  perform flywheel._check_vector(v_active, query);
  return query
    select f.trace_id, f.span_id, f.input, f.output, f.passed, f.reason, f.similarity, f.weight, f.label_id, f.embedder
    from flywheel._explained(
      v_active.name,
      flywheel._few_shot(
        v_active.embedder_id, flywheel._normalized(query), 'verdict', v_validator_id, k, half_life, disagreement_weight,
        diversity, exclude_trace, exclude_session, null, null, false
      )
    ) as f
    order by f.place;
end
$$;

comment on function flywheel.few_shot_by_vector(text, vector, integer, interval, double precision, double precision, uuid, text) is
  'few_shot() for a query that the caller has embedded, with the model of the active embedder.';
