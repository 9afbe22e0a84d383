"""The same numbers at any size: how losses are evaluated, from 2 samples to millions of logits.

A public loss checks its arguments and asks ``choose`` for a way; ``sizes`` holds the thresholds.
All ways go through the one autograd function of ``evaluation``, and equal the few lines of
``plain``::

    symmetric_info_nce(x, y)                            mmcontrast/symmetric.py
      choose.both_ways_info_nce                         the only place that decides
        | up to 2^16 logits      infonce_whole.symmetric_at_once
        | up to 512 rows         infonce_whole.symmetric_in_one_matrix
        | more                   infonce_tiles.symmetric_in_tiles
        | many on a GPU          kernels.symmetric_fused
        | too many for a rank    ring.info_nce_on_ring
        evaluation.evaluate(way, x, y, temperature)     the one autograd function
          way.forward                                   e.g. infonce_tiles._SymmetricTiles
            tiles.tiles                                 the one generator of tiles of logits
          way.backward                                  makes the tiles again
            tiles.tiles
          plain.plain_symmetric                         under compilers, transforms, and for
                                                        second derivatives

The same tree for the other losses:

====================  ===========================  ==================================  ============
loss                  chosen by                    ways                                plain form
====================  ===========================  ==================================  ============
``info_nce``          ``one_way_info_nce``         ``infonce_whole, infonce_blocks``,  one way
                                                   ``ring, kernels``
``sup_con``           ``sup_con_among_themselves`` ``supcon_whole, supcon_tiles``,     SupCon
                                                   ``kernels``
``sigmoid_contrast``  ``sigmoid_of_pairs``         ``sigmoid_tiles, kernels``          sigmoid
mining                ``ranked_at_a_time``         ``ranking``, with ``topk``
====================  ===========================  ==================================  ============

Losses with masks (``keep``, ``positives``) take :func:`mmcontrast.softmax.contrast` instead, in
blocks of anchors. HyCon's own evaluation by class moments is in :mod:`mmcontrast.hybrid`.
"""
