-- Fisher (1915), "Frequency distribution of the values of the correlation coefficient in samples from an
-- indefinitely large population": atanh(r) is about normal with variance 1 / (n - 3).
create or replace function flywheel._correlation_interval(r double precision, n bigint)
returns table (low double precision, high double precision)
language sql
immutable
parallel safe
begin atomic
  select
    case when r is not null then case when n > 3 then tanh(atanh(r) - 1.959963984540054 / sqrt(n - 3)) else -1 end end,
    case when r is not null then case when n > 3 then tanh(atanh(r) + 1.959963984540054 / sqrt(n - 3)) else 1 end end;
end;

comment on function flywheel._correlation_interval(double precision, bigint) is
  '95 % interval of a correlation by Fisher''s transformation; null if there is no correlation.';

-- Of two binary variables, the correlation coefficient is phi (Yule 1912, "On the methods of measuring
-- association between two attributes").
create or replace function flywheel._phi(joint bigint, a bigint, b bigint, n bigint)
returns double precision
language sql
immutable
parallel safe
begin atomic
  -- Rounding may lead out of -1 to 1; greatest() and least() alone would take null for the other.
  select case when p.phi is not null then greatest(-1, least(1, p.phi)) end
  from (
    select (n::numeric * joint - a::numeric * b)::double precision
      / nullif(sqrt((a::numeric * (n - a) * b * (n - b))::double precision), 0) as phi
  ) as p;
end;

comment on function flywheel._phi(bigint, bigint, bigint, bigint) is
  'Correlation of two yes-or-no questions asked of n: a said yes to the first, b to the second, joint to both; null if one was always answered alike.';

-- The version of each validator that speaks for it today.
create or replace view flywheel._newest_versions as
select distinct on (r.validator_id) r.validator_id, r.version_id, r.version, d.name
from flywheel._validator_versions as r
join flywheel._validators as d on d.validator_id = r.validator_id and d.dropped_at is null
order by r.validator_id, r.version desc;

comment on view flywheel._newest_versions is 'The newest version of each validator that is not dropped.';
