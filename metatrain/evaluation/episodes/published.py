"""The data sets of the benchmarks, and the lists of episodes that are published for them."""

# By the sha256 of a data set's manifest: the benchmark's name, and the sha256 of the published list
# of its test split.
PUBLISHED = {
    "9539a0f1813f8371367cd273e39d9a35d4b0afefa29f2dc03d308c8e4f888ecf": (
        "glyphs-28",
        "dcd8e96860e4de03d5366f8a1395c0c65d20060c77f566bd61e87d77a59ecbf5",
    ),
    "3f4cf53939ff511e6eeb4ca75895f8ee0c13ff6df6dda31a8ad3ed37d5e6d398": (
        "glyphs-16",
        "14a29e181fe8e3918414786981bf411fe05cef3b61c708004f56961eb9e570bd",
    ),
    "d521fbdbb1275ae80b08627924a941e6fdf18ef9fbceee7737b1ce757f1c7597": (
        "icons32",
        "934470e34ac2b98f8ef973cb9335b7a2663440f3455300115fc0ff87bdcea5e3",
    ),
    "586ee0c1c902e5c0929408c828885855a2c3a9a87255e9676eb914cc3f1569d4": (
        "icons64",
        "970d25ff5e8bc6b06aee96c9fbc306a0c8dca607febf6f3e3809b3db6111fbf2",
    ),
    "b19e38450c7d887b394f73845b9a08eddb9fdd27d1e057a40d74e29f79e7cf30": (
        "icons32-wide",
        "900bfa07a27a39cfaee605f68df66ab4d1234e33a96b6df46d5f4601141565f0",
    ),
    "cecdfa868cff7392a05d6e10fd916ed21e5bf4fa50027825628f9a6cc504c705": (
        "emoji-64",
        "bc7aa28bc44a1687b8fd5f0b97ff0453cbec97b0d21a26c03c5077b7f2e5c3f5",
    ),
    "98829dd1d1ddf91a32316ff8c8901f49dd9a7e58cbe8fe33dcef444f1e83f941": (
        "emoji-64-hand",
        "479cf5d13b895063a86ca072f14919a5dcccea4beec63b3fb6528067d3feef82",
    ),
    "0f20ca2117568fa64071eb767b36ebca3571b1a5299116615d4d67a611cf9f5b": (
        "emoji-64-new-hand",
        "7e9aad2b46a1a5698aca72f245e98aff905a0f293811286c9c75c61b732dd6a5",
    ),
    "2feedd5dc0a62cbe435d894d08006877cee830198464470195600f89213b7e07": (
        "emoji-32",
        "86510a4c5ae56424e1972e6890233c0eb93a1851a385d0240416fab212e3eefb",
    ),
    "8dec7e9e5b1c2a3b6634749d925f7757793ae16d2d6dd0851fdef8456fa4c8dd": (
        "emoji-32-hand",
        "205aab5746b3596767c97e795c0fc78b12dfa549a8424ae2a74317084661c8de",
    ),
    "9e460d059ddd81783e6708717c75159bb49f3c4de388ab6e2f120383f7f77d8a": (
        "emoji-32-new-hand",
        "6a12878cf0aff8e4ba2801b13b962dba74f9e174a3fcc8a0048cd57ee377888c",
    ),
    "840f31d5b55d91f2c4257b2ff3e8209b3493eddf4b61af01776a47948fa07cff": (
        "emoji-64-rgba",
        "0f18e247133c7ab0c11ed6917eb911f12742a5da073a91d993f26258ead4d049",
    ),
    "52b8a4ae3ef3d724074d49bc385aecfbc01b33556a7899d08bf68102472f9f26": (
        "emoji-64-hand-rgba",
        "a4bab16312ab8bda89b7c3e4bd573712f47e32e957f8d2f29407417e2ccdca3a",
    ),
    "095a3e4b9bd194640df750e94e4f589a156626a0a31f2967a2ad7004b2379ffb": (
        "emoji-64-new-hand-rgba",
        "91ff6f3e47655da5fa8f92c6fef640acc7c9ebb645861eedf0b1745468015a59",
    ),
    "44476d3ac207676c87e2881b733948936b753ce931974ad4aa6321d26b5c291c": (
        "emoji-128",
        "3f5e2234daece79ba2b50196f04c036feb4af4855a723d777a646afd5262b728",
    ),
    "7a992da340d30b08fe6afcbfe78e44179009c2b53efc74a267e2722fd77547c7": (
        "emoji-128-hand",
        "8c8b5d3476d521eb002066d158a3e81eda37443387209c5933ecd97a891681e8",
    ),
    "ea050adafd298a7be0df2e8b73a655c7692f088118e837c49ed1867c04cf8b10": (
        "emoji-128-new-hand",
        "d836a33cc9848adbf382440c2f6192b062878922f1b553f87465bd137cbc4e23",
    ),
}
