"""What a table says of itself: the notes above it in Markdown and on the page, and its caption in LaTeX."""

NOTES = {
    "accuracy": """\
Accuracies in percent; mean ± sample standard deviation (ddof 1) over n seeds. A heading names its selection rule;
source-val is the best source validation accuracy, ties to the latest. `mean` and `worst` are over the shifted targets;
a target of several severities is their mean. The mean under each rule stands side by side; oracle looks at the targets
and is no result, and optimism is what it adds to source-val, in points, – where a run was evaluated once. `mean,
95 %`: interval of the mean, – for one seed and for equal ones. Bold: better than every other row with a number in that
column, by paired t-tests after Holm's correction, 5 %, on five seeds or more; where nothing is bold, the seeds do not
support it. `paper`: published means on the same kind of network and images, a range where they disagree; off by SE:
ours beyond that range in standard errors of ours, – where ours has none. The formulas are in docs/statistics.md.
""",
    "differences": """\
Mean over the shifted targets, row minus `versus`, paired by seed, in points. p: paired t-test, Holm-corrected over
the rows that share a `versus`: ERM, the best row, or, for variants of a method, the method itself. The intervals hold
for all of these rows at once (Bonferroni). p decides: Holm's test is sharper, and may tell two rows apart whose
interval still holds 0. More seeds to settle: 0 where p and five seeds do; else how many would bring 0 outside the
interval, and the seeds to five at least, if mean and spread stayed as they are; unclear: more than 50 in all. The best
row was picked by these same numbers, so its p-values flatter it. p, last step: p (Holm) of the networks of the last
step, instead of the selected ones; a claim that holds for one of them alone hangs on the choice of the checkpoint. –:
fewer than three common seeds, or equal differences, give no spread to test with.
""",
    "sources": """\
Each method is trained on one source and tested in the other domains, from each source in turn. `from` a source: the
mean of its accuracy table, over the shifted targets, with all of its seeds. `mean`: the plain mean of these over the
sources, for each seed that a row has from every source. `worst`: likewise, of the worst targets. In percent; mean ±
sample standard deviation (ddof 1) over seeds. n: seeds that have every source; a note says what the others lack.
`minus ERM`: in points, paired by seed; intervals for all rows at once (Bonferroni), p by paired t-tests after Holm's
correction. `mean, 95 %`: interval of the mean. Bold: better than every other row with a number in that column, by the
tests of the accuracy table, on five seeds or more. –: no such seed, no other row's, or no spread to test with.
docs/statistics.md has the definition.
""",
    "calibration": """\
Of the network that the selection rule of the heading chose; mean ± sample standard deviation (ddof 1) over n seeds; no
temperature scaling. Lower is better. ECE: expected calibration error, the mean gap between confidence and accuracy:
top label, 15 bins of equal width, weighted by images, in percent. NLL: mean negative log likelihood of the labels, in
nats. Columns and `mean` are those of the accuracy table; a target of several severities is the mean over them. Neither
says how accurate a network is, and with few images the ECE is too high. Bold: lower than every other row by the tests
of the accuracy table, on five seeds or more. –: the run was made before this was measured and has to be run again, or a
note below says why. docs/calibration.md has the definitions.
""",
    "ranks": """\
Average rank over comparisons (a dataset and a source), 1 is best, equal accuracies share ranks. A comparison counts
once, by its mean over shifted targets and over the seeds that all ranked rows have: its targets are tested with the
same networks. Comparisons of another protocol, budget or device are ranked apart, where there are two at least.
""",
    "cost": """\
Accuracy: mean over the shifted targets, percent. Passes: forward-backward passes over a batch in the whole run, a
forward counts 1/3. Seconds: set-up and training, without evaluation; – where runs shared a GPU. One block of columns
for each length of run.
""",
    "paper": """\
Accuracies in percent, differences in points. Difference: ours minus the published number; in SE: the same in standard
errors of our mean, – where ours has none. confirmed: read in the publication of those who ran it; restated: read in
another paper's table; recalled: not read. A number of another protocol, network or subset is no target; `network there`
and results/paper.json say what each is.
""",
    "sensitivity": """\
Error rates in [0,1] under single Fourier waves, on source validation images; mean ± sample standard deviation (ddof 1)
over n seeds. Clean error: without a wave. Mean: over all frequencies. A frequency's radius is in cycles per image of N
pixels a side; low: up to N/6 (5.3 at 32 pixels, zero included); mid: above that, up to N/3 (10.7); high: above N/3,
corners included. Area above clean error: mean over all frequencies of what exceeds the clean error. Half-maximum
radius, no error rate: where the mean over rings has fallen to the middle between its maximum and the clean error.
docs/sensitivity.md defines the waves.
""",
    "throughput": """\
Source images per second over the whole training, set-up and expansion included; relative to ERM of the same seed in
the same call of benchmark.run, where there was one; steady: median [quartiles] after the warm-up; passes:
forward-backward passes per source image (a forward counts 1/3, a backward 2/3). Shares are in [0,1], but for that of
bare passes, which are timed after the run and may be slower. Augment to forward-backward share: of the training time.
Two floors, set-up left out: share of bare passes is the rate's share of what the same passes alone reach, in batches of
the same sizes, on images that are there already; share of matrix rate is their arithmetic's share of the measured rate
of large matrix products. Where steps were replayed from CUDA graphs, shares are those of launched steps at the start of
the run. On a GPU that several runs shared (`sharing`: how many at a time), relative to ERM, steady and both floors
would be those of all of them: –. A floor that was not measured is – too.
""",
    "search": """\
What `--search` tried for each row: trial 0 is the setting as asked for, the others are drawn at random, and all have
one seed, which is none of the table's. Source validation: accuracy on held-out source images, percent, under the
selection rule; the highest is chosen, of equal ones the first. Targets are not looked at. Seconds: set-up and training,
in trials that did not end well all that they took; a footnote for each row sets those of its search beside those of its
runs in the accuracy table. docs/search.md says what is drawn from where.
""",
}

CAPTIONS = {
    "accuracy": "Accuracy in percent, mean ± standard deviation over n seeds",
    "selection": "Mean accuracy over the shifted targets in percent under each selection rule",
    "differences": "Differences of mean accuracy in points, paired by seed",
    "sources": "Accuracy in percent over all sources, mean ± standard deviation over n seeds that have every source",
    "calibration": "Calibration of the selected networks, lower is better, mean ± standard deviation over n seeds; "
    "– where a run was made before it was measured, or could not be",
    "ranks": "Average ranks of accuracy over comparisons (a dataset and a source)",
    "cost": "Mean accuracy in percent, forward-backward passes over a batch, and seconds of training",
    "paper": "Accuracy in percent beside published numbers",
    "sensitivity": "Error rates in [0,1] under single Fourier waves, mean ± standard deviation over n seeds; low, mid "
    "and high: frequencies of radius up to N/6, up to N/3 and above N/3 cycles per image of N pixels a side",
    "search": "Settings tried for each row: accuracy on source validation in percent, and seconds of training",
    "throughput": "Source images per second, shares, and what else a run costs; relative to ERM: – where the "
    "same call had no ERM run of the same seed",
}
