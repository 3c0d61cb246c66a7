"""Tables of the papers whose methods skood has, as they print them, in per cent.

Whether a figure can be expected to come out here (the same network, data and protocol)
is for the pages of ``docs/benchmarks/papers`` to say.
"""

from __future__ import annotations

from io import StringIO

import pandas as pd


def table(text: str, *index: str) -> pd.DataFrame:
    """Return the table in a text of comma-separated values."""
    return pd.read_csv(StringIO(text), index_col=list(index))


# Xu, Zhu, Li and Xu, "Joint distribution across representation space for
# out-of-distribution detection", 2021, Table 1, CIFAR-10. MSP is its "Softmax",
# Mahalanobis its "Mahalanobis (penultimate layer)", with perturbed inputs.
LSGM_DENSENET = table(
    """method,outliers,tnr95,auroc,aupr
MSP,gaussian,93.7,97.7,96.4
MSP,rademacher,93.1,97.0,94.1
MSP,blob,0.0,64.0,56.1
MSP,textures,60.2,88.5,78.3
MSP,tiny_imagenet,81.2,94.1,92.4
Mahalanobis,gaussian,100,100,100
Mahalanobis,rademacher,100,100,100
Mahalanobis,blob,99.2,99.7,99.3
Mahalanobis,textures,67.6,95.2,93.9
Mahalanobis,tiny_imagenet,72.1,95.4,95.9
LSGM,gaussian,100,100,100
LSGM,rademacher,100,100,100
LSGM,blob,99.6,99.8,99.4
LSGM,textures,80.8,96.8,95.6
LSGM,tiny_imagenet,91.2,98.3,98.5
""",
    "method",
    "outliers",
)

# The same table, ResNet-34 on CIFAR-10.
LSGM_RESNET = table(
    """method,outliers,tnr95,auroc,aupr
MSP,gaussian,76.9,89.7,82.4
MSP,rademacher,85.6,93.6,87.6
MSP,blob,83.0,93.7,90.7
MSP,textures,65.4,89.2,78.2
MSP,tiny_imagenet,71.6,91.0,88.3
Mahalanobis,gaussian,90.4,97.2,95.8
Mahalanobis,rademacher,97.7,99.3,98.8
Mahalanobis,blob,96.8,99.4,99.4
Mahalanobis,textures,79.9,95.2,90.3
Mahalanobis,tiny_imagenet,80.7,95.0,94.0
LSGM,gaussian,100,100,100
LSGM,rademacher,100,100,100
LSGM,blob,99.8,100,99.9
LSGM,textures,76.4,96.2,95.0
LSGM,tiny_imagenet,92.7,98.6,98.7
""",
    "method",
    "outliers",
)

# Olber, Radlak, Popowicz, Szczepankiewicz and Chachula, "Detection of
# out-of-distribution samples using binary neuron activation patterns", CVPR 2023: the
# table of the repository's README, means over all triples of known, validation and test
# sets. "summed" and "voting" are its approaches 1 and 3, as far as its charts tell.
NAP_VOTING = table(
    """network,criterion,votes,auroc,summed,voting
VGG,accuracy,3,89.15,81.39,79.57
VGG,accuracy,5,90.19,81.94,80.92
VGG,accuracy,7,90.84,82.01,82.35
VGG,accuracy,9,91.37,82.22,83.26
VGG,threshold,3,88.15,79.74,80.21
VGG,threshold,5,89.11,79.55,81.09
VGG,threshold,7,89.87,79.87,81.72
VGG,threshold,9,90.29,79.91,82.18
ResNet,accuracy,3,84.68,79.05,77.75
ResNet,accuracy,5,85.03,79.83,77.46
ResNet,accuracy,7,84.68,79.15,77.11
ResNet,accuracy,9,85.27,79.15,77.50
ResNet,threshold,3,85.93,80.38,79.54
ResNet,threshold,5,85.67,79.82,78.41
ResNet,threshold,7,84.86,78.71,76.72
ResNet,threshold,9,83.89,77.95,76.42
""",
    "network",
    "criterion",
    "votes",
)

# Yu, Shin, Lee, Jun and Lee, "Block selection method for using feature norm in
# out-of-distribution detection", CVPR 2023, CIFAR-10, as on the authors' poster:
# textures, and the means over SVHN, textures, LSUN (two), iSUN and Places365.
FEATURE_NORM = table(
    """network,method,textures fpr95,textures auroc,mean fpr95,mean auroc
ResNet-18,MSP,59.47,89.56,50.63,91.91
ResNet-18,Energy,45.83,90.37,29.66,94.10
ResNet-18,FeatureNorm,31.18,92.31,25.67,94.36
WRN-28-10,MSP,53.30,87.45,41.49,91.84
WRN-28-10,Energy,46.06,85.09,28.65,91.99
WRN-28-10,FeatureNorm,14.23,97.06,13.53,97.33
VGG-11,MSP,63.86,89.37,64.77,88.73
VGG-11,Energy,47.04,92.08,46.46,91.67
VGG-11,FeatureNorm,24.62,95.11,39.34,91.18
ResNet-18,"MSP, selected norm",,,35.56,94.66
ResNet-18,"Energy, selected norm",,,17.59,96.69
WRN-28-10,"MSP, selected norm",,,38.38,93.59
WRN-28-10,"Energy, selected norm",,,24.01,94.87
VGG-11,"MSP, selected norm",,,56.57,90.55
VGG-11,"Energy, selected norm",,,35.42,93.58
""",
    "network",
    "method",
)

# Guglielmo and Masana, "Leveraging intermediate representations for better
# out-of-distribution detection", 2025: read off the one figure of the authors' public
# code, ResNet-18, CIFAR-10 against SVHN. An AUROC below 50 is turned around there.
LAYER_ENERGY = table(
    """layer,AUROC either way
layer1.0.conv2,94
layer1.0.bn2,94
layer1.0.bn1,93
layer1.1.conv2,91
fc,78
""",
    "layer",
)

# Anirudh and Thiagarajan, "Out of distribution detection via neural network anchoring",
# ACML 2022, Table 8: FPR95 of CIFAR-10 against SVHN, WRN-40-2, by number of anchors.
# Its rows add up: the last is the 5.19 of Table 2, which has all five corruptions.
# Plain energy is from Table 2.
AMP_CORRUPTION = table(
    """corruption,2,5,10,20
none,50.71,50.73,50.85,50.89
"jitter, blur",6.53,6.31,6.36,6.28
all but crop,9.96,9.85,10.11,9.89
all,5.32,5.19,5.35,5.22
""",
    "corruption",
)
AMP_ENERGY_FPR95 = 35.59
