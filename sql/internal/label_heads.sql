-- The current label of each target and validator: the newest of the highest precedence that is not
-- withdrawn. It could be found whenever it is asked for. It is kept, because incremental metrics follow
-- rows that change, and what changes in labels is which of them counts.
--
-- Which one that is, is decided under the lock of its head, and what is decided is written even if it
-- stays the same: so a transaction that has an older snapshot fails to serialize instead of deciding by it.

-- trace_ids, span_ids, validator_ids: the targets, one beside the other.
create or replace function flywheel._settle_label_heads(trace_ids uuid[], span_ids uuid[], validator_ids integer[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  -- Labels that others have added are seen once their heads are locked: by the next statement.
  perform
  from flywheel._label_heads as h
  where (h.trace_id, h.span_id, h.validator_id) in (
    select t.trace_id, t.span_id, t.validator_id
    from rows from (unnest(trace_ids), unnest(span_ids), unnest(validator_ids)) as t (trace_id, span_id, validator_id)
  )
  order by h.trace_id, h.span_id, h.validator_id
  for update;

  with settled as (
    select t.*, h.label_id as kept, s.label_id, s.precedence
    from (
      select distinct u.trace_id, u.span_id, u.validator_id
      from rows from (unnest(trace_ids), unnest(span_ids), unnest(validator_ids)) as u (trace_id, span_id, validator_id)
    ) as t
    left join flywheel._label_heads as h
      on h.trace_id = t.trace_id and h.span_id = t.span_id and h.validator_id = t.validator_id
    left join lateral (
      select l.label_id, l.precedence
      from flywheel._standing_labels as l
      where l.trace_id = t.trace_id and l.span_id = t.span_id and l.validator_id = t.validator_id
      order by l.precedence desc, l.label_id desc
      limit 1
    ) as s on true
  ), gone as (
    delete from flywheel._label_heads as h
    using settled as s
    where h.trace_id = s.trace_id and h.span_id = s.span_id and h.validator_id = s.validator_id and s.label_id is null
  ), moved as (
    update flywheel._label_heads as h
    set label_id = s.label_id, precedence = s.precedence
    from settled as s
    where h.trace_id = s.trace_id and h.span_id = s.span_id and h.validator_id = s.validator_id and s.label_id is not null
  )
  -- One that was missing. Who labels at this moment comes after us, and knows better.
  insert into flywheel._label_heads (trace_id, span_id, validator_id, label_id, precedence)
  select s.trace_id, s.span_id, s.validator_id, s.label_id, s.precedence
  from settled as s
  where s.kept is null and s.label_id is not null
  order by s.trace_id, s.span_id, s.validator_id
  on conflict do nothing;
end
$$;

comment on function flywheel._settle_label_heads(uuid[], uuid[], integer[]) is
  'Decides anew which label of these targets and validators is the current one.';

-- Triggers keep the heads. What was written around them is found by comparing.
create or replace function flywheel._mend_label_heads()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._settle_label_heads(array_agg(trace_id), array_agg(span_id), array_agg(validator_id))
  from (
    select distinct on (l.trace_id, l.span_id, l.validator_id) l.trace_id, l.span_id, l.validator_id, l.label_id
    from flywheel._standing_labels as l
    where l.validator_id is not null
    order by l.trace_id, l.span_id, l.validator_id, l.precedence desc, l.label_id desc
  ) as s
  full join flywheel._label_heads as h using (trace_id, span_id, validator_id)
  where h.label_id is distinct from s.label_id
  having count(*) > 0;
$$;

comment on function flywheel._mend_label_heads() is 'Settles the heads that are not what the labels say.';
