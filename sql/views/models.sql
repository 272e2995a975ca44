create or replace view flywheel.models as
select
  m.name,
  m.provider,
  m.base_url,
  m.model,
  m.api_key_env,
  m.api_version,
  m.parameters,
  m.structured_output,
  m.timeout_seconds,
  m.max_concurrency,
  m.requests_per_minute,
  m.tokens_per_minute,
  m.daily_budget_usd,
  p.input_price,
  p.cached_input_price,
  p.output_price,
  coalesce(u.cost_usd, 0) as spent_today_usd,
  coalesce(u.requests, 0)::bigint as requests_today,
  coalesce(u.input_tokens, 0)::bigint as input_tokens_today,
  coalesce(u.cached_tokens, 0)::bigint as cached_tokens_today,
  coalesce(u.output_tokens, 0)::bigint as output_tokens_today,
  case
    when m.daily_budget_usd <= coalesce(u.cost_usd, 0) then 'budget_exhausted'
    when s.open_until > flywheel.now() then 'open'
    when s.open_until is not null then 'half_open'
    else 'ready'
  end as state,
  s.open_until,
  s.last_error,
  m.description,
  m.created_at
from flywheel._models as m
left join flywheel._model_states as s on s.model_id = m.model_id
left join lateral (
  select q.input_price, q.cached_input_price, q.output_price
  from flywheel._prices as q
  where q.model_id = m.model_id and q.valid_from <= flywheel.now()
  order by q.valid_from desc
  limit 1
) as p on true
left join lateral (
  select sum(d.cost_usd) as cost_usd, sum(d.requests) as requests, sum(d.input_tokens) as input_tokens,
    sum(d.cached_tokens) as cached_tokens, sum(d.output_tokens) as output_tokens
  from flywheel._usage as d
  where d.model_id = m.model_id and d.day = (flywheel.now() at time zone 'UTC')::date
) as u on true;

comment on view flywheel.models is 'The models that judge: where they are called, their limits and prices, what they have used today. No key is in it.';
comment on column flywheel.models.name is 'Name by which validators use it.';
comment on column flywheel.models.provider is 'openai (and everything compatible) or azure.';
comment on column flywheel.models.base_url is 'Where it is called.';
comment on column flywheel.models.model is 'The endpoint''s name for it.';
comment on column flywheel.models.api_key_env is 'Environment variable of the worker that holds the key; null for none.';
comment on column flywheel.models.api_version is 'azure: the version of its interface.';
comment on column flywheel.models.parameters is 'Sent with every call.';
comment on column flywheel.models.structured_output is 'How a JSON reply is asked for: auto, json_schema, json_object or none.';
comment on column flywheel.models.timeout_seconds is 'Seconds a call may take.';
comment on column flywheel.models.max_concurrency is 'Calls one worker makes at once; null for no limit.';
comment on column flywheel.models.requests_per_minute is 'Requests a minute of all workers together; null for no limit.';
comment on column flywheel.models.tokens_per_minute is 'Tokens a minute of all workers together; null for no limit.';
comment on column flywheel.models.daily_budget_usd is 'US dollars a UTC day; null for no limit. Calls in flight when it is reached still count.';
comment on column flywheel.models.input_price is 'US dollars per million tokens of input, now.';
comment on column flywheel.models.cached_input_price is 'US dollars per million cached tokens of input, now; null: as input.';
comment on column flywheel.models.output_price is 'US dollars per million tokens of output, now.';
comment on column flywheel.models.spent_today_usd is 'US dollars since midnight UTC.';
comment on column flywheel.models.requests_today is 'Requests since midnight UTC.';
comment on column flywheel.models.input_tokens_today is 'Tokens of input since midnight UTC, the cached ones included.';
comment on column flywheel.models.cached_tokens_today is 'Cached tokens of input since midnight UTC.';
comment on column flywheel.models.output_tokens_today is 'Tokens of output since midnight UTC.';
comment on column flywheel.models.state is 'ready; open or half_open (its circuit breaker); budget_exhausted until midnight UTC.';
comment on column flywheel.models.open_until is 'When a call is let through again, after failures or a Retry-After.';
comment on column flywheel.models.last_error is 'Its latest transient failure.';
comment on column flywheel.models.description is 'For people.';
comment on column flywheel.models.created_at is 'When it was created.';
