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

-- Nobody waits for this row for longer than a moment. A claim holds it until its worker has read what
-- it got; a worker that was stopped, or cut off, must hold up neither the others nor, through the
-- traces that a completion locks, those who write traces.
create or replace function flywheel._lock_model_state(model_id integer, tries integer)
returns flywheel._model_states
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_state flywheel._model_states;
begin
  for v_try in 0..tries loop
    select s.* into v_state
    from flywheel._model_states as s
    where s.model_id = _lock_model_state.model_id
    for update skip locked;
    exit when v_state.model_id is not null;
    if v_try = 0 then
      insert into flywheel._model_states (model_id)
      select _lock_model_state.model_id
      where not exists (select from flywheel._model_states as s where s.model_id = _lock_model_state.model_id)
      on conflict do nothing;
    else
      perform pg_sleep(0.002);
    end if;
  end loop;
  return v_state;
end
$$;

comment on function flywheel._lock_model_state(integer, integer) is
  'Locks and returns what is known of a model''s health and limits; null if it cannot be had within a moment.';

-- How many jobs of so many requests each a model may be given now, at most `wanted`. Their requests and
-- about their tokens are taken: who finds fewer jobs gives the rest back. A model without limits and in
-- good health is only read.
create or replace function flywheel._take_requests(
  model_id integer, wanted integer, votes integer, tries integer, at timestamptz,
  out granted integer, out tokens_each integer, out is_noted boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models;
  v_state flywheel._model_states;
  v_minutes double precision;
  v_most double precision;
begin
  granted := 0;
  is_noted := false;
  select m.* into v_model from flywheel._models as m where m.model_id = _take_requests.model_id;
  if not found then  -- dropped a moment ago
    return;
  end if;
  if v_model.daily_budget_usd is not null
    and flywheel._spent_on(v_model.model_id, at) >= v_model.daily_budget_usd then
    return;
  end if;
  select s.* into v_state from flywheel._model_states as s where s.model_id = _take_requests.model_id;
  if v_state.open_until is null and v_model.requests_per_minute is null and v_model.tokens_per_minute is null then
    granted := wanted;
    return;
  end if;
  if v_state.open_until > at then
    return;
  end if;
  v_state := flywheel._lock_model_state(_take_requests.model_id, tries);
  if v_state.model_id is null or v_state.open_until > at then
    return;
  end if;
  is_noted := true;
  if v_state.open_until is not null then
    -- Half open: one job finds out. Should its worker die, another one may when its call would be over.
    update flywheel._model_states as s
    set open_until = at + greatest(interval '30 seconds', v_model.timeout_seconds * interval '1 second'), is_probing = true
    where s.model_id = _take_requests.model_id;
    granted := least(wanted, 1);
    return;
  end if;

  -- Buckets that fill within a minute and hold a tenth of it, so that a limit is not met by a burst.
  -- A job that asks for more than a bucket holds must not wait for ever: it needs a full one.
  v_minutes := case
    when v_state.refilled_at = '-infinity' then 1
    else greatest(extract(epoch from at - v_state.refilled_at), 0) / 60
  end;
  granted := wanted;
  if v_model.requests_per_minute is not null then
    v_most := greatest(v_model.requests_per_minute / 10.0, 1);
    v_state.request_room := least(v_state.request_room + v_minutes * v_model.requests_per_minute, v_most);
    granted := least(
      granted, greatest(floor(v_state.request_room / votes), (v_state.request_room >= least(votes, v_most))::integer)
    );
  end if;
  if v_model.tokens_per_minute is not null then
    tokens_each := flywheel._tokens_expected(_take_requests.model_id, at) * votes;
    v_most := v_model.tokens_per_minute / 10.0;
    v_state.token_room := least(v_state.token_room + v_minutes * v_model.tokens_per_minute, v_most);
    granted := least(
      granted, greatest(floor(v_state.token_room / tokens_each), (v_state.token_room >= least(tokens_each, v_most))::integer)
    );
  end if;
  update flywheel._model_states as s
  set request_room = v_state.request_room - case when v_model.requests_per_minute is null then 0 else granted * votes end,
    token_room = v_state.token_room - coalesce(granted * tokens_each, 0),
    refilled_at = at
  where s.model_id = _take_requests.model_id;
end
$$;

comment on function flywheel._take_requests(integer, integer, integer, integer, timestamptz) is
  'Takes the requests of up to so many jobs from a model''s limits: none while its breaker is open, its budget spent or its minute full.';

-- By who has just taken them, and holds the row.
create or replace function flywheel._return_requests(
  model_id integer, requests integer, tokens integer, is_probe_unused boolean, at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  update flywheel._model_states as s
  set request_room = s.request_room + case when m.requests_per_minute is null or s.is_probing then 0 else requests end,
    token_room = s.token_room + coalesce(tokens, 0),
    open_until = case when s.is_probing and is_probe_unused then at else s.open_until end,
    is_probing = s.is_probing and not is_probe_unused
  from flywheel._models as m
  where s.model_id = _return_requests.model_id and m.model_id = s.model_id;
end
$$;

comment on function flywheel._return_requests(integer, integer, integer, boolean, timestamptz) is
  'Gives back requests that were taken and are not made; a probe that found no job is left to the next.';

-- Nobody knows before the call. The mean of yesterday and today is right in the long run, and what a
-- call really used is settled afterwards.
create or replace function flywheel._tokens_expected(model_id integer, at timestamptz)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return (
    select least(greatest(coalesce(sum(u.input_tokens + u.output_tokens) / nullif(sum(u.requests), 0), 1000), 1), 1000000)
    from flywheel._usage as u
    where u.model_id = _tokens_expected.model_id and u.day >= (at at time zone 'UTC')::date - 1
  );
end
$$;

comment on function flywheel._tokens_expected(integer, timestamptz) is
  'About how many tokens a request to a model takes: the mean since yesterday, 1000 before there is one.';

create or replace function flywheel._spent_on(model_id integer, at timestamptz)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return (
    select coalesce(sum(u.cost_usd), 0)
    from flywheel._usage as u
    where u.model_id = _spent_on.model_id and u.day = (at at time zone 'UTC')::date
  );
end
$$;

comment on function flywheel._spent_on(integer, timestamptz) is 'US dollars a model has cost on the UTC day of this moment.';

create or replace function flywheel._cost_usd(
  model_id integer, at timestamptz, input_tokens bigint, cached_tokens bigint, output_tokens bigint
)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return (
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
    limit 1
  );
end
$$;

comment on function flywheel._cost_usd(integer, timestamptz, bigint, bigint, bigint) is
  'What tokens cost by the prices of a moment, in US dollars; null without a price.';

-- Ten failures with no success between them open the breaker: for 30 seconds, then twice as long
-- each time a probe fails, ten minutes at most. What was in flight when it opened changes nothing.
-- With a Retry-After the model only rests.
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
  v_state constant flywheel._model_states := flywheel._lock_model_state(model_id, 50);
  v_opens constant boolean := retry_after is null and (
    v_state.is_probing or v_state.open_until is null and v_state.failures >= 9
  );
begin
  update flywheel._model_states as s
  set failures = s.failures + 1,
    last_error = _note_model_failure.error,
    is_probing = s.is_probing and retry_after is null and not v_opens,
    openings = s.openings + v_opens::integer,
    open_until = case
      when v_opens then at + least(interval '30 seconds' * 2 ^ least(s.openings, 10), interval '10 minutes')
      -- The probe is over: its own time limit counts no more.
      when s.is_probing then at + retry_after
      else greatest(s.open_until, at + retry_after)
    end
  where s.model_id = v_state.model_id;
end
$$;

comment on function flywheel._note_model_failure(integer, text, timestamptz, interval) is
  'Counts a transient failure of a model; too many in a row, or its own Retry-After, keep workers away for a while.';

-- What has answered is well: its breaker closes. A rest that the endpoint asked for goes on, though
-- calls in flight still succeed. `tokens` are what claims had taken, less what the calls used.
create or replace function flywheel._note_models(model_ids integer[], tokens bigint[], have_answered boolean[], at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_noted record;
  v_state flywheel._model_states;
  v_is_well boolean;
begin
  for v_noted in
    select k.model_id, coalesce(sum(k.tokens), 0) as tokens, bool_or(k.has_answered) as has_answered
    from rows from (unnest(model_ids), unnest(tokens), unnest(have_answered)) as k (model_id, tokens, has_answered)
    join flywheel._models as m on m.model_id = k.model_id
    join flywheel._model_states as s on s.model_id = k.model_id
    where k.has_answered and (s.failures > 0 or s.open_until is not null)
      or m.tokens_per_minute is not null and k.tokens <> 0
    group by k.model_id
    order by k.model_id
  loop
    v_state := flywheel._lock_model_state(v_noted.model_id, 50);
    v_is_well := v_noted.has_answered
      and (v_state.is_probing or v_state.openings > 0 or coalesce(v_state.open_until <= at, true));
    update flywheel._model_states as s
    set token_room = s.token_room + v_noted.tokens,
      failures = case when v_noted.has_answered then 0 else s.failures end,
      openings = case when v_is_well then 0 else s.openings end,
      open_until = case when not v_is_well then s.open_until end,
      is_probing = s.is_probing and not v_is_well
    where s.model_id = v_state.model_id;
  end loop;
end
$$;

comment on function flywheel._note_models(integer[], bigint[], boolean[], timestamptz) is
  'Closes the circuit breakers of models that have answered, and settles the tokens of finished calls.';

-- Checked by _read_run().
create or replace function flywheel._run_numbers(run jsonb)
returns table (requests integer, input_tokens bigint, cached_tokens bigint, output_tokens bigint, latency_ms real)
language sql
immutable
parallel safe
begin atomic
  select coalesce((run ->> 'requests')::numeric::integer, 0), coalesce((run ->> 'input_tokens')::numeric::bigint, 0),
    coalesce((run ->> 'cached_tokens')::numeric::bigint, 0), coalesce((run ->> 'output_tokens')::numeric::bigint, 0),
    (run ->> 'latency_ms')::numeric::real;
end;

comment on function flywheel._run_numbers(jsonb) is 'The numbers in what a worker says of a run.';
