-- Wilson (1927), "Probable inference, the law of succession, and statistical inference", eq. 3,
-- with z = 1.959963984540054 for 95 %.
create or replace function flywheel._wilson_interval(passed bigint, n bigint)
returns table (centre double precision, margin double precision)
language sql
immutable
parallel safe
begin atomic
  -- Numerator and denominator times n: a metric computes it for each of its groups.
  select
    (s.x + s.zz / 2) / (s.n + s.zz),
    sqrt((s.x * (s.n - s.x) / s.n + s.zz / 4) * s.zz) / (s.n + s.zz)
  from (
    select passed::double precision as x, nullif(n, 0)::double precision as n,
      1.959963984540054::double precision * 1.959963984540054::double precision as zz
  ) as s;
end;

comment on function flywheel._wilson_interval(bigint, bigint) is
  'Centre and half-width of the 95 % Wilson score interval of a rate; null if n is 0.';
