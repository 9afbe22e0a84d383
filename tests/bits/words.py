"""The table of cases: functions, and what each of them is called with.

``B=64|600 t=0.01|learned`` stands for four cases; given.py says what the words mean.
Sizes lie on both sides of the thresholds: 2^15 logits (181, 182), 2^16 (256, 257), 2^18 pairs (512,
513), sides of tiles (384, 512, 1024), 200 samples and 128 of a class, 448^2 similarities, 2^20.
"""

import itertools
from collections.abc import Iterator

TABLE: list[tuple[str, str]] = [
    (
        "info_nce symmetric_info_nce sigmoid_contrast",
        """
        B=0|1|2|3|7|64|181|182|200|256|257|300|512|513|600|1100
        B=64|257|513 dtype=float64|bfloat16|float16
        B=64|300 dtype=float32+float64|bfloat16+float32
        B=64|300 mode=autocast dtype=float32|bfloat16
        B=7|181|600 reduction=sum|none
        B=64|300|600 weight=plain|zeros|learned reduction=mean|none
        B=64|300|600 t=1.0|0.01|learned
        B=64|300|600 t=learned weight=learned dtype=float64 free=x|y|temperature|weight
        B=64|300|600 normalize=none|softmax|lambda
        B=64|300|600 normalize=none rows=large
        B=64|300|600 rows=edges|close t=0.01
        B=64 chunk=1
        B=300|600 chunk=7|64|B|5000
        B=600 chunk=64|B reduction=none|sum t=learned
        B=182|300 D=1|5|64
        B=64|300 keep=some weight=plain
        B=64|300 positives=bool
        B=600 keep=some reduction=sum|none
        B=64 keep=some dtype=float32+float64
        B=300 keep=some positives=bool chunk=64 t=learned
        B=7|64|300|600 mode=twice t=learned reduction=mean|none
        B=64|300|600 mode=no_grad
        B=7 mode=func|vmap|jvp
        B=7 mode=func keep=some
        B=88 world=2|3 weight=plain|learned t=learned
        B=88 world=2|3 empty=yes
        B=88 world=2|3 reduction=none|sum chunk=16
        B=528 world=2|3
        B=88 world=2|3 keep=some positives=bool
        """,
    ),
    (
        "info_nce sigmoid_contrast",
        """
        B=64|257 C=300
        B=600 C=40|60 positives=bool
        B=100|300 C=1100 t=learned
        B=64|300 C=600 keep=some
        B=300 C=64 positives=bool
        B=64|300 C=600 weight=zeros reduction=none chunk=64
        B=88 C=176 world=2|3
        """,
    ),
    (
        "info_nce",
        """
        B=64|257|600 targets=default|permuted|holes C=600 weight=plain
        B=600 targets=permuted C=300
        B=600 targets=holes C=40|60 keep=some
        B=7|600 C=1100 targets=holes reduction=none|sum t=learned
        B=1|64 targets=nobody
        B=300 targets=nobody reduction=none
        B=600 targets=holes chunk=64 weight=learned
        B=64|300 positives=float
        B=300 positives=float keep=some chunk=7 weight=zeros reduction=none
        B=64 targets=holes keep=some
        B=64|300 targets=permuted mode=twice
        B=7 targets=holes mode=func|vmap|jvp
        B=88 world=2|3 targets=holes weight=plain
        B=88 world=2|3 targets=holes ring=yes reduction=mean|none chunk=16 t=learned
        B=88 C=176 world=2|3 ring=yes weight=learned
        """,
    ),
    (
        "symmetric_info_nce",
        """
        B=64|300 positives=float
        B=1024|1025 normalize=none
        B=88 world=2|3 ring=yes t=learned weight=plain|learned
        B=88 world=2|3 ring=yes reduction=none chunk=16 dtype=float64
        B=88 world=2|3 ring=yes empty=yes
        B=12 world=2|3 ring=yes mode=twice t=learned
        """,
    ),
    (
        "sigmoid_contrast",
        """
        B=64|513|600 bias=-10.0|learned t=learned
        B=600 bias=5.0 normalize=none rows=large
        B=600 positives=bool keep=some bias=learned chunk=64
        B=64 mode=twice bias=learned
        """,
    ),
    (
        "matched_pair_nce n_pair",
        """
        B=1|7|300 weight=plain reduction=mean|none
        B=64 dtype=float64|bfloat16|float16
        B=64 normalize=none|softmax
        B=7 mode=twice|func|jvp
        B=88 world=2|3 weight=plain
        """,
    ),
    ("matched_pair_nce", "B=64 pairs=some t=learned\nB=88 world=3 pairs=some empty=yes"),
    ("n_pair", "B=64 C=300 targets=holes\nB=64 positives=float keep=some"),
    (
        "sup_con",
        """
        B=0|1|2|3|7|64|200|257|384|385|600|1100 labels=few
        B=64|385 labels=one|two|distinct|columns|holes|scores|nobody
        B=64|385 labels=few dtype=float64|bfloat16|float16
        B=64|600 labels=few mode=autocast
        B=64|600 labels=holes weight=plain|zeros|learned reduction=mean|sum|none
        B=64|600 labels=two t=1.0|0.01|learned
        B=64|600 labels=few free=x|temperature t=learned
        B=64|600 labels=few normalize=none|softmax|lambda
        B=64|600 labels=few normalize=none rows=large
        B=64|600 labels=few rows=edges|close t=0.01
        B=300|600 labels=holes chunk=7|64|B|5000
        B=300|600 labels=few D=1|5|64
        B=64|385 labels=few form=in t=learned
        B=64|300 C=385 labels=holes form=in|out chunk=64
        B=64 C=300 labels=columns
        B=64|385 positives=bool|float keep=some weight=plain
        B=64|385 labels=few keep=some chunk=64
        B=7|64|385 labels=few|holes mode=twice t=learned
        B=64|385 labels=few mode=no_grad
        B=7 labels=few mode=func|vmap|jvp
        B=88 world=2|3 labels=few|holes weight=plain t=learned
        B=528 world=2|3 labels=few reduction=none
        B=88 world=2|3 labels=two empty=yes
        B=88 world=2|3 labels=few form=in keep=some
        """,
    ),
    (
        "hybrid_contrast",
        """
        B=0|1|2|7|64|199|200|257|600 labels=few
        B=64|300 labels=one|two|distinct|columns|holes|scores|nobody
        B=2100|4200 labels=pair M=2 D=5
        B=300|600 labels=pair D=5|64
        B=64|300 labels=few dtype=float64|bfloat16|float16
        B=64|300 labels=few mode=autocast
        B=64|300 labels=holes present=some weight=plain|zeros|learned reduction=mean|sum|none
        B=64|300 labels=pair present=some log=True
        B=64|300 labels=few refine=False
        B=64|300 labels=few margin=0.3 weights=(1,0,0.5)|(0,2,1)|(0,0,1)|(0,0,0)
        B=64|300 labels=few normalize=none|lambda|l2
        B=64|300 labels=few rows=edges|close|large
        B=64|300 labels=few free=text|audio
        B=64|300 labels=holes selection=default|positives|negatives|sum|twice present=some
        B=64 labels=few selection=default refine_on=all|weighted log=True|False
        B=1100 labels=few selection=default M=4
        B=64|300 positives=bool|float present=some
        B=1100 positives=float
        B=64|1100 positives=bool log=True reduction=none weight=plain
        B=7|64|300 labels=few|pair|holes mode=twice
        B=64|300 labels=few mode=no_grad
        B=7 labels=few mode=func|vmap|jvp
        B=88|528 world=2|3 labels=few|holes|pair present=some weight=plain
        B=88|528 world=2|3 labels=few empty=yes
        B=88 world=2|3 labels=few selection=default reduction=none
        B=88 world=2|3 positives=float
        """,
    ),
    (
        "intra_modal_contrast inter_modal_contrast",
        """
        B=7|64|300 labels=holes M=2|3|4 present=some
        B=64|300 labels=few reduction=none log=True weight=learned
        B=64|300 labels=few selection=default|positives refine_on=weighted
        B=64 positives=float refine=False
        B=7 labels=few mode=twice|func|jvp
        B=88 world=2|3 labels=few
        """,
    ),
    (
        "semi_contrast",
        """
        B=0|1|64|600 M=2|4
        B=64 present=some weight=learned reduction=mean|sum|none
        B=64 dtype=float64|bfloat16|float16
        B=64 normalize=none|l2 rows=edges margin=0.5
        B=7 mode=twice|func|vmap|jvp
        B=88 world=2|3 present=some
        """,
    ),
    (
        "anchored_info_nce",
        """
        B=0|1|7|64|300
        B=64|300 direction=from_anchor|to_anchor|both present=some weight=plain t=learned
        B=64 anchor=audio M=2|4 reduction=sum|none weight=zeros
        B=64|300 dtype=float64|bfloat16|float16
        B=64 mode=autocast|no_grad|twice
        B=7 mode=func|vmap|jvp
        B=88 world=2|3 present=some direction=both
        B=88 world=2|3 empty=yes
        """,
    ),
    (
        "multilevel_contrast",
        """
        B=1|7|64|300
        B=64|300 pair_design=A|B|C labels=holes present=some t=learned
        B=64 symmetric=False weight=plain reduction=sum|none keep=some
        B=64 positives=float weights={'second':0.5}|{'first':0}
        B=300|600 chunk=64
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|jvp
        B=88 world=2|3 present=some
        B=88 world=2|3 pair_design=B|C labels=few
        """,
    ),
    (
        "triplet",
        """
        B=0|1|64|600 pairs=some
        B=64 distance=euclidean|squared_euclidean|manhattan|chebyshev|cosine_distance|mahalanobis
        B=64 rows=ties|edges distance=euclidean|cosine_distance hinge=False
        B=64 dtype=float64|bfloat16|float16
        B=64 pairs=some weight=plain|learned reduction=mean|sum|none margin=0.2
        B=7 mode=twice|func|vmap|jvp
        B=88 world=2|3 pairs=some weight=plain
        B=88 world=2|3 empty=yes
        """,
    ),
    (
        "modality_correlation_triplet",
        """
        B=1|64 T=4 reduce=flatten|mean|per_step
        B=64 present=some altered=some weight=plain reduction=mean|sum|none
        B=64 altered=some skip_unaltered=False M=2 distance=euclidean|mahalanobis
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|jvp
        B=88 world=2|3 altered=some present=some
        """,
    ),
    (
        "modality_correlation",
        """
        B=1|64 T=4 reduce=flatten|mean|per_step frames=some
        B=64 rows=edges|close
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|jvp
        """,
    ),
    (
        "kl_distill",
        """
        B=0|1|64|600
        B=64 T=5 frames=some weight=plain|zeros|learned reduction=mean|sum|none
        B=64 direction=teacher_student|student_teacher temperature=0.5|10.0 rows=plain|close|large
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|vmap|jvp
        B=88 world=2|3 frames=some weight=plain
        B=88 world=2|3 empty=yes
        """,
    ),
    (
        "ratio_contrast",
        """
        B=1|64|300 C=300 log=True|False
        B=64 floats=yes weight=learned reduction=mean|sum|none log=True|False
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|jvp
        B=88 world=2|3 weight=plain
        """,
    ),
    (
        "pair_prediction",
        """
        B=0|1|64
        B=64 rows=large pairs=some weight=plain reduction=mean|sum|none
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|jvp
        """,
    ),
    (
        "l2_normalize softmax_normalize shifted_cosine_normalize softplus_normalize",
        """
        B=1|64|600 D=1|5|64
        B=64 rows=edges|large|small|tiny|ties dtype=float32|float64|bfloat16
        B=64 dtype=float64|bfloat16|float16
        B=7 mode=twice|func|vmap|jvp
        """,
    ),
    (
        "euclidean squared_euclidean manhattan chebyshev cosine_distance mahalanobis custom",
        """
        B=64 rows=plain|edges|ties|close
        B=64 dtype=float64|bfloat16
        B=7 mode=twice|func|jvp
        B=64 C=40 pairwise=yes rows=plain|ties
        """,
    ),
    (
        "hard_negatives",
        """
        B=0|1|7|64|447|448|600|1100 k=1|5
        B=64|600 k=600 exclude_positive=True|False
        B=7 k=3 mode=vmap
        B=64 C=80|81|128|129|300 k=3|100 rows=plain|ties
        B=300|600 C=1100 k=7|600 rows=plain|ties
        B=64|600 labels=few|holes|columns|nobody k=5
        B=64|600 labels=holes k=5 chunk=64
        B=64|600 labels=holes C=700 targets=holes k=5
        B=64|600 allowed=some k=5 exclude_positive='after'|False
        B=600 allowed=some labels=two k=5 targets=permuted
        B=64|600 k=5 dtype=float64|bfloat16|float16 normalize=none|l2
        B=64|600 k=5 mode=autocast rows=edges
        B=88|528 world=2|3 k=5 labels=few
        B=88 world=2|3 k=5 allowed=some exclude_positive='after'
        B=88 world=2|3 k=5 empty=yes targets=holes
        """,
    ),
    (
        "hard_triplets",
        """
        B=0|1|7|64|447|448|600|1100 labels=few
        B=7 labels=few mode=vmap
        B=64|600 labels=one|two|distinct|columns|holes|scores|nobody
        B=64|600 labels=few rows=ties dtype=float64|bfloat16|float16
        B=300 labels=holes chunk=7|64 normalize=none
        B=88|528 world=2|3 labels=holes
        B=88 world=2|3 labels=few empty=yes
        """,
    ),
    (
        "diagnose",
        """
        B=1|7|64|600
        B=1100 labels=holes k=3
        B=64 C=300 labels=few targets=holes normalize=none t=0.5 dtype=float32|float64|bfloat16
        B=300 chunk=64
        """,
    ),
    (
        "same_label different_label intra_modal_pairs inter_modal_pairs",
        "B=7|64 labels=few|holes|columns|scores|nobody",
    ),
    ("intra_modal_pairs inter_modal_pairs", "B=64 labels=few present=some\nB=64 positives=float"),
    ("close_scores", "B=64 tolerance=0.5"),
    ("same_sign", "B=64"),
    (
        "score_kernel",
        "B=64 bandwidth=0.7 shape=gaussian|laplacian|triangular dtype=float32|float64",
    ),
    ("sentiment_classes", "B=64 neutral=positive|negative|own|ignore"),
    ("select_pairs", "B=64 selection=default|positives|negatives rows=plain|ties C=300"),
    ("hardness_weights", "B=64 gamma=1.0|3.0 C=300"),
    ("extreme", "B=64 largest=True|False rows=plain|ties"),
    ("sample_one", "B=64 C=300"),
    ("uniform_negatives", "B=1|64 k=5\nB=64 k=5 allowed=some"),
    ("replacement_gate", "B=1|64 probability=0.0|0.7|1.0 training=True|False"),
    ("swap shift add_noise replace_tokens mixed_negatives", "B=1|32\nB=32 present=some"),
    ("queue", "B=64|300"),
    ("gather", "B=88 world=2|3\nB=88 world=2|3 empty=yes dtype=bfloat16"),
    (
        "InfoNCE SymmetricInfoNCE SigmoidContrast AnchoredInfoNCE MultilevelContrast Triplet "
        "ModalityCorrelationTriplet KLDistill",
        "B=64",
    ),
    ("Mahalanobis", "B=64\nB=64 C=40 pairwise=yes"),
    ("ReplacementGate", "B=64"),
    ("SupCon HybridContrast", "B=64 labels=few"),
    ("GradCache", "B=64|300 chunk=7|64"),
]


def names() -> Iterator[str]:
    """Of all cases, in order; none twice."""
    seen: set[str] = set()
    for functions, lines in TABLE:
        for function, line in itertools.product(functions.split(), lines.strip().splitlines()):
            for words in _expand(line):
                name = f"{function}/{words}"
                if name not in seen:
                    seen.add(name)
                    yield name


def _expand(line: str) -> Iterator[str]:
    words = [word.partition("=") for word in line.split()]
    choices = [[f"{key}={x}" for x in value.split("|")] for key, _, value in words]
    return (" ".join(choice) for choice in itertools.product(*choices))
