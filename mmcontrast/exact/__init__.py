"""The same numbers at any size: how losses are evaluated, from 2 samples to 2^20 and more.

A public loss checks its arguments and asks its ``..._choice`` for a way, by what ``choose`` says
of sizes and devices; ``sizes`` holds the thresholds.
All ways go through the one autograd function of ``evaluation``, and equal the few lines of
``plain``::

    symmetric_info_nce(x, y)                            mmcontrast/symmetric.py
      infonce_choice.both_ways_info_nce                 decides, in this order
        | up to 2^16 logits      infonce_whole.symmetric_at_once
        | too many for a rank    ring.info_nce_on_ring
        | many on one GPU        kernels.symmetric_fused
        | up to 512 rows         infonce_whole.symmetric_in_one_matrix
        | more                   infonce_tiles.symmetric_in_tiles
        evaluation.evaluate(way, x, y, temperature)     the one autograd function
          way.forward                                   e.g. infonce_tiles._SymmetricTiles
            tiles.tiles                                 the one generator of tiles of logits
          way.backward                                  makes the tiles again
            tiles.tiles
          way.plain                                     for second derivatives:
            plain.plain_symmetric                       a few lines that autograd knows

The same for the other losses:

====================  =============================  =============================  ===============
loss                  chosen by                      ways                           plain form
====================  =============================  =============================  ===============
``info_nce``          ``one_way_info_nce``           ``infonce_whole``, ``ring``,   plain_one_way
                                                     ``infonce_blocks``, kernels
``sup_con``           ``sup_con_among_themselves``   ``supcon_whole``,              plain_sup_con
                                                     ``supcon_tiles``, kernels
``sigmoid_contrast``  ``sigmoid_of_pairs``           ``sigmoid_tiles``, kernels     plain_sigmoid
``joint_contrast``    ``shuffled_products``,         ``joint_products``,            plain_shuffled,
                      ``all_products``,              ``joint_tiles``                ``plain_...``
                      ``contrast_of_volumes``
mining, ``hardest``   ``ranked_at_a_time``           ``ranking``, ``topk``          no gradient
``batch_hard``        by distance, limit or file     ``nearest``
====================  =============================  =============================  ===============

With ``keep``, ``infonce_blocks`` and ``infonce_tiles`` mask their logits; any ``positives``, and
SupCon of other than a batch's labels, take ``masked_blocks``. Under transforms, all of these take
:func:`mmcontrast.softmax.contrast`. HyCon's own evaluation by class moments is in
:mod:`mmcontrast.hybrid`.
"""
