"""Built-in sample data: a procedural city with exact boxes, masks and depth. Does not import torch.

towns, street, buildings, greenery, furniture             static scenery
cars, heavy, people, actors, traffic                      road users
world, stage                                              one drive; the actors of one frame
camera, mesh, canvas                                      polygons, painted far to near into a layer-index buffer
light, textures, shadows, shade, render                   from that buffer to an image
labels, write, write_kitti, write_cvat, write_cityscapes  labels and files
"""
