-- The models that judge: their limits, their prices, and the circuit breaker of each.

create or replace function flywheel._find_model(name text)
returns flywheel._models
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models;
begin
  select m.* into v_model from flywheel._models as m where m.name = _find_model.name;
  if v_model.model_id is null then
    raise exception 'there is no model %', coalesce(quote_ident(name), 'null')
      using errcode = 'LF005',
        hint = coalesce(
          'There are: ' || (select string_agg(quote_ident(m.name), ', ' order by m.name) from flywheel._models as m),
          'None has been created yet: see flywheel.create_model().'
        );
  end if;
  return v_model;
end
$$;

comment on function flywheel._find_model(text) is 'A model by its name; LF005 if there is none.';

-- How many jobs of so many requests each a model may be given now, at most `wanted`. Their requests are
-- taken: who finds fewer jobs gives the rest back. A model without limits and in good health is only read.
create or replace function flywheel._take_requests(model_id integer, wanted integer, votes integer, at timestamptz)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models;
  v_state flywheel._model_states;
  v_minutes double precision;
  v_room double precision;
begin
  select m.* into strict v_model from flywheel._models as m where m.model_id = _take_requests.model_id;
  if v_model.daily_budget_usd is not null
    and flywheel._spent_on(v_model.model_id, at) >= v_model.daily_budget_usd then
    return 0;
  end if;
  select s.* into v_state from flywheel._model_states as s where s.model_id = _take_requests.model_id;
  if v_state.open_until is null and v_model.requests_per_minute is null and v_model.tokens_per_minute is null then
    return wanted;
  end if;

  insert into flywheel._model_states (model_id) values (_take_requests.model_id) on conflict do nothing;
  select s.* into strict v_state
  from flywheel._model_states as s
  where s.model_id = _take_requests.model_id
  for update;
  if v_state.open_until > at then
    return 0;
  elsif v_state.open_until is not null then
    -- Half open: one request finds out. Should its worker die, another one may in half a minute.
    update flywheel._model_states as s
    set open_until = at + interval '30 seconds', is_probing = true
    where s.model_id = _take_requests.model_id;
    return least(wanted, 1);
  end if;

  -- A bucket that fills within a minute and holds a tenth of it, so that a limit is not met by a burst.
  v_minutes := case
    when v_state.refilled_at = '-infinity' then 1
    else greatest(extract(epoch from at - v_state.refilled_at), 0) / 60
  end;
  v_state.request_room := least(
    v_state.request_room + v_minutes * v_model.requests_per_minute,
    greatest(v_model.requests_per_minute / 10.0, 1)
  );
  v_state.token_room := least(
    v_state.token_room + v_minutes * v_model.tokens_per_minute, v_model.tokens_per_minute / 10.0
  );
  v_room := case
    when v_model.tokens_per_minute is not null and v_state.token_room <= 0 then 0
    when v_model.requests_per_minute is null then wanted
    -- A job that asks for more than the bucket holds must not wait for ever.
    else least(wanted, greatest(floor(v_state.request_room / votes), (v_state.request_room >= 1)::integer))
  end;
  update flywheel._model_states as s
  set request_room = coalesce(v_state.request_room, 0) - v_room * votes,
    token_room = coalesce(v_state.token_room, 0),
    refilled_at = at
  where s.model_id = _take_requests.model_id;
  return v_room;
end
$$;

comment on function flywheel._take_requests(integer, integer, integer, timestamptz) is
  'Takes the requests of up to so many jobs from a model''s limits: 0 while its breaker is open, its budget spent or its minute full.';

create or replace function flywheel._return_requests(model_id integer, unused integer, at timestamptz)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  update flywheel._model_states as s
  set request_room = s.request_room + unused,
    open_until = case when s.is_probing and unused > 0 then at else s.open_until end
  from flywheel._models as m
  where s.model_id = _return_requests.model_id
    and m.model_id = s.model_id
    and unused > 0
    and (m.requests_per_minute is not null or s.is_probing);
$$;

comment on function flywheel._return_requests(integer, integer, timestamptz) is
  'Gives back requests that were taken and not made; a probe that found no job is left to the next.';

create or replace function flywheel._spent_on(model_id integer, at timestamptz)
returns numeric
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(sum(u.cost_usd), 0)
  from flywheel._usage as u
  where u.model_id = _spent_on.model_id and u.day = (at at time zone 'UTC')::date;
$$;

comment on function flywheel._spent_on(integer, timestamptz) is 'US dollars a model has cost on the UTC day of this moment.';

create or replace function flywheel._cost_usd(
  model_id integer, at timestamptz, input_tokens bigint, cached_tokens bigint, output_tokens bigint
)
returns numeric
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select round(
    (
      greatest(coalesce(input_tokens, 0) - coalesce(cached_tokens, 0), 0) * p.input_price
      + coalesce(cached_tokens, 0) * coalesce(p.cached_input_price, p.input_price)
      + coalesce(output_tokens, 0) * p.output_price
    ) / 1000000, 9
  )
  from flywheel._prices as p
  where p.model_id = _cost_usd.model_id and p.valid_from <= at
  order by p.valid_from desc
  limit 1;
$$;

comment on function flywheel._cost_usd(integer, timestamptz, bigint, bigint, bigint) is
  'What tokens cost by the prices of a moment, in US dollars; null without a price.';

-- Ten failures with no success between them open the breaker: for 30 seconds, then twice as long
-- each time a probe fails, ten minutes at most. What was in flight when it opened changes nothing.
create or replace function flywheel._note_model_failure(
  model_id integer, error text, at timestamptz, retry_after interval
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_state flywheel._model_states;
  v_opens boolean;
begin
  insert into flywheel._model_states (model_id)
  select m.model_id from flywheel._models as m where m.model_id = _note_model_failure.model_id
  on conflict do nothing;
  select s.* into v_state
  from flywheel._model_states as s
  where s.model_id = _note_model_failure.model_id
  for update;
  v_opens := retry_after is null and (
    v_state.is_probing or v_state.open_until is null and v_state.failures >= 9
  );
  update flywheel._model_states as s
  set failures = s.failures + 1,
    last_error = _note_model_failure.error,
    is_probing = s.is_probing and retry_after is null and not v_opens,
    openings = s.openings + v_opens::integer,
    open_until = case
      when v_opens then at + least(interval '30 seconds' * 2 ^ least(s.openings, 10), interval '10 minutes')
      else greatest(s.open_until, at + retry_after)
    end
  where s.model_id = _note_model_failure.model_id;
end
$$;

comment on function flywheel._note_model_failure(integer, text, timestamptz, interval) is
  'Counts a transient failure of a model; too many in a row, or its own Retry-After, keep workers away for a while.';

create or replace function flywheel._note_model_success(model_ids integer[])
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  update flywheel._model_states as s
  set failures = 0, openings = 0, open_until = null, is_probing = false
  where s.model_id = any (model_ids) and (s.failures > 0 or s.open_until is not null);
$$;

comment on function flywheel._note_model_success(integer[]) is 'Closes the circuit breakers of models that have answered.';

-- What runs have used, by model. `runs` are objects as complete_jobs() describes them, model_ids theirs.
create or replace function flywheel._note_usage(model_ids integer[], runs jsonb[], at timestamptz)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  with used as (
    select r.model_id, sum(u.requests) as requests, sum(u.input_tokens) as input_tokens,
      sum(u.cached_tokens) as cached_tokens, sum(u.output_tokens) as output_tokens,
      sum(flywheel._cost_usd(r.model_id, at, u.input_tokens, u.cached_tokens, u.output_tokens)) as cost_usd
    from rows from (unnest(model_ids), unnest(runs)) as r (model_id, run),
      lateral flywheel._run_numbers(r.run) as u
    where r.model_id is not null and r.run is not null
    group by r.model_id
  ),
  added as (
    insert into flywheel._usage as d (model_id, day, slot, requests, input_tokens, cached_tokens, output_tokens, cost_usd)
    select u.model_id, (at at time zone 'UTC')::date, pg_backend_pid() % 16,
      u.requests, u.input_tokens, u.cached_tokens, u.output_tokens, coalesce(u.cost_usd, 0)
    from used as u
    join flywheel._models as m on m.model_id = u.model_id
    order by u.model_id
    on conflict on constraint _usage_pkey do update
    set requests = d.requests + excluded.requests,
      input_tokens = d.input_tokens + excluded.input_tokens,
      cached_tokens = d.cached_tokens + excluded.cached_tokens,
      output_tokens = d.output_tokens + excluded.output_tokens,
      cost_usd = d.cost_usd + excluded.cost_usd
  )
  update flywheel._model_states as s
  set token_room = s.token_room - u.input_tokens - u.output_tokens
  from used as u
  join flywheel._models as m on m.model_id = u.model_id and m.tokens_per_minute is not null
  where s.model_id = u.model_id;
$$;

comment on function flywheel._note_usage(integer[], jsonb[], timestamptz) is
  'Adds what runs have used to their models'' day, and to the minute of those with a limit on tokens.';

create or replace function flywheel._run_numbers(
  run jsonb,
  out requests integer, out input_tokens bigint, out cached_tokens bigint, out output_tokens bigint,
  out latency_ms real
)
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce((run ->> 'requests')::numeric::integer, 0), coalesce((run ->> 'input_tokens')::numeric::bigint, 0),
    coalesce((run ->> 'cached_tokens')::numeric::bigint, 0), coalesce((run ->> 'output_tokens')::numeric::bigint, 0),
    (run ->> 'latency_ms')::real;
$$;

comment on function flywheel._run_numbers(jsonb) is 'The numbers in what a worker says of a run.';
