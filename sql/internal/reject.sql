-- on_fail => 'reject' and on_error => 'reject': the only way a validator stops a statement.

-- Called by a compiled statement for a validator that may reject. What it needs of the catalog is
-- compiled in: the writer's snapshot may be older than the validator. A row that is already marked as
-- blocked was refused before the LLM was called: keeping its history is the point of the row.
create or replace function flywheel._enforce(
  outcome flywheel._outcome, validator text, on_fail text, on_error text, explanation text,
  trace_id uuid, span_id uuid, status text
)
returns flywheel._outcome
language plpgsql
stable
as $$
begin
  if status operator(pg_catalog.=) 'blocked' then
    return outcome;
  end if;
  if (outcome.code operator(pg_catalog.=) 0 and on_fail operator(pg_catalog.=) 'reject')
    or (outcome.code operator(pg_catalog.=) 3 and on_error operator(pg_catalog.=) 'reject') then
    raise exception 'the validator "%" rejects %',
      validator,
      case
        when span_id is null then pg_catalog.format('trace %s', trace_id)
        else pg_catalog.format('span %s of trace %s', span_id, trace_id)
      end
      using errcode = 'LF010',
        detail = coalesce(outcome.reason, outcome.error, explanation),
        hint = case when outcome.code operator(pg_catalog.=) 0
          then 'Nothing of the statement was stored. Correct the row, or set the validator to on_fail => ''record''.'
          else 'Nothing of the statement was stored. Mend the validator, or set it to on_error => ''allow''.'
        end,
        schema = 'flywheel',
        table = case when span_id is null then 'traces' else 'spans' end,
        constraint = validator;
  end if;
  return outcome;
end
$$;

comment on function flywheel._enforce(flywheel._outcome, text, text, text, text, uuid, uuid, text) is
  'Raises LF010 if a rejecting validator failed on a row that is not blocked already; otherwise passes the outcome on.';
