"""How Sprout, the built-in text-to-picture model, is grown. One stage a module, in this order:

    fetch        the open picture sets and their captions, from npm packages by name
    concepts     which things are kept, and every name a caption may use for them
    render       each picture as 128 × 128 premultiplied RGBA
    recolour     copies of each picture in other colours, so that colour words can be learnt
    autoencoder  128 × 128 × 4 to 16 × 16 × 6 and back
    latents      every picture once through the encoder
    flow         the text-guided rectified flow between noise and latents
    features     a classifier whose features say which concept a picture shows
    evaluate     the figures of the model card, and the contact sheet
    export       four small ONNX graphs for the package

`recipe` has every number that may be changed; `folders` says where files go.
"""
