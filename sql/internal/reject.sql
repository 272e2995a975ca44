-- on_fail => 'reject' and on_error => 'reject': the only way a validator stops a statement.

-- Called by a compiled statement for a validator that may reject. A row that is already marked as
-- blocked was refused before the LLM was called: keeping its history is the point of the row.
create or replace function flywheel._enforce(
  outcome flywheel._outcome, version_id integer, trace_id uuid, span_id uuid, status text
)
returns flywheel._outcome
language plpgsql
stable
as $$
declare
  v_validator record;
begin
  if status operator(pg_catalog.=) 'blocked' then
    return outcome;
  end if;
  if outcome.code operator(pg_catalog.=) 0 or outcome.code operator(pg_catalog.=) 3 then
    select d.name, v.on_fail, v.on_error, v.description, v.body into strict v_validator
    from flywheel._validator_versions as v
    join flywheel._validators as d on d.validator_id operator(pg_catalog.=) v.validator_id
    where v.version_id operator(pg_catalog.=) _enforce.version_id;

    if (outcome.code operator(pg_catalog.=) 0 and v_validator.on_fail operator(pg_catalog.=) 'reject')
      or (outcome.code operator(pg_catalog.=) 3 and v_validator.on_error operator(pg_catalog.=) 'reject') then
      raise exception 'the validator "%" rejects %',
        v_validator.name,
        case
          when span_id is null then pg_catalog.format('trace %s', trace_id)
          else pg_catalog.format('span %s of trace %s', span_id, trace_id)
        end
        using errcode = 'LF010',
          detail = coalesce(outcome.reason, outcome.error, v_validator.description, pg_catalog.format('not: %s', v_validator.body)),
          hint = 'Nothing of the statement was stored. Correct the row, or set the validator to on_fail => ''record''.',
          schema = 'flywheel',
          table = case when span_id is null then 'traces' else 'spans' end,
          constraint = v_validator.name;
    end if;
  end if;
  return outcome;
end
$$;

comment on function flywheel._enforce(flywheel._outcome, integer, uuid, uuid, text) is
  'Raises LF010 if a rejecting validator failed on a row that is not blocked already; otherwise passes the outcome on.';
