-- Seconds of work, so it is done in the background and kept. Without the texts of the exemplars: what is
-- forgotten must not be left here.
select flywheel._set_builtin_metric(
  name => 'low_performers',
  storage => 'materialized',
  refresh_every => '1 hour',
  description => 'What the failing traces of the last 7 days are about: clusters by the vectors of their texts, the largest first. From at most 1,000 failing and 1,000 passing traces of the newest 100,000; flywheel.cluster_failures() does the same for one pipeline, another time or other limits.',
  columns => $json${
    "cluster": "Counts from 1, the largest cluster.",
    "failed": "Failing traces in it: a validator failed them or a span of theirs.",
    "passed": "Passing traces that are nearer to it than to any other cluster.",
    "failure_rate": "failed / (failed + passed).",
    "pipelines": "How many of the failing traces of the sample each pipeline made.",
    "validators": "How many of them each validator failed.",
    "words": "Words that set their texts apart from those of passing traces, the most telling first (log-odds with an informative Dirichlet prior, Monroe et al. 2008; z above 1.96).",
    "exemplars": "The failing traces nearest to its centre, up to three: their trace_id.",
    "similarity": "Mean cosine of its failing traces and its centre: 1 if all are the same."
  }$json$,
  query => $query$
select cluster, failed, passed, failure_rate, pipelines, validators, words, exemplars, similarity
from flywheel.cluster_failures()
$query$
);
